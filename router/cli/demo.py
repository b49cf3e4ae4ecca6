"""`canary-router demo`: the whole product on one machine, with real models and a real registry.

Rules:
1. Nothing is simulated: an MLflow server, two trained models, the router as its own process, clients over sockets.
2. Everything is kept under `.demo/`; a second run finds the models there and is quick.
3. It fails, with exit 1, when a request failed, a share is off, or a process was restarted.
4. On a terminal it keeps serving until Ctrl-C; otherwise it ends. Either way nothing is left running.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from router.cli import demo_edit, demo_report, mlflow_server
from router.cli.demo_stage import Stage, answers, free_ports, open_stage
from router.cli.demo_traffic import CLOCK, HeldOut, Told, Visit, read_held_out, send
from router.cli.processes import family_of
from router.config.load import load_repository
from router.errors import OperatorError, UpstreamError

MODEL = "breast-cancer"
CANARY = "v2"
ROUNDS = {"eu-west": 12, "us-east": 2}
EDITED_REGION = "eu-west"
EDITED = {"v1": 50, "v2": 50}
EDIT_AFTER = 400
# What the demo needs beside the router's own dependencies: a whole MLflow, and models to train.
_NEEDED = ("mlflow", "flask", "sqlalchemy", "sklearn", "skops", "pandas")
# Wanted for the registry, the admin port, and a listener for each region.
_PORTS = (5000, 9090, 8080, 8081)
_PATH = f"/models/{MODEL}/invocations"
_EXAMPLE = Path(__file__).parents[2] / "config"
_START_SECONDS = 120.0
_TRAIN_SECONDS = 300.0


@dataclass(frozen=True)
class Scene:
    """Where everything is: directories, and addresses that are free."""

    root: Path
    registry: str
    admin: str
    listen: Mapping[str, str]

    @property
    def config(self) -> Path:
        """The config repository that the router watches."""
        return self.root / "config"

    @property
    def model_file(self) -> Path:
        """The YAML of the demo's model."""
        return self.config / "models" / f"{MODEL}.yaml"

    @property
    def serving(self) -> Path:
        """Where the router says that it listens, and as which process."""
        return self.root / "state" / "serving.json"

    @property
    def held_out(self) -> Path:
        """The rows that no model has seen; the file is there once both models are registered."""
        return self.root / "held-out.json"


@click.command()
@click.option(
    "--directory", type=Path, default=Path(".demo"), show_default=True, metavar="DIR", help="Where it keeps its data."
)
def demo(directory: Path) -> None:
    """Train two real models, serve them 90/10 and compare them."""
    _check_installed()
    console = Console(highlight=False, soft_wrap=True)
    with open_stage(directory) as stage:
        scene = _set(directory.absolute())
        _start_registry(stage, scene, console)
        rows = _train(stage, scene, console)
        _start_router(stage, scene, console)
        seen = _compare(scene, rows, console)
        _move(stage, scene, rows, seen, console)
        if sys.stdout.isatty():
            _keep_serving(stage, scene, console)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise OperatorError(
            f"the demo needs libraries that are missing: {', '.join(missing)}",
            hint="install them with: pip install 'canary-router[demo]'",
        )


def _set(root: Path) -> Scene:
    registry, admin, *listen = [f"http://127.0.0.1:{port}" for port in free_ports(_PORTS)]
    return Scene(root=root, registry=registry, admin=admin, listen=dict(zip(ROUNDS, listen, strict=True)))


def _start_registry(stage: Stage, scene: Scene, console: Console) -> None:
    with console.status("starting an MLflow server"):
        port = int(scene.registry.rpartition(":")[2])
        stage.start("MLflow server", mlflow_server.command(scene.root, port), mlflow_server.environment())
        stage.wait_for("MLflow server", lambda: answers(f"{scene.registry}/health"), timeout=_START_SECONDS)
    console.print(f"MLflow server at {scene.registry}")


def _train(stage: Stage, scene: Scene, console: Console) -> HeldOut:
    if not (scene.held_out.exists() and _is_registered(scene.registry)):
        with console.status("training two models on scikit-learn's breast_cancer data"):
            module = [sys.executable, "-m", "router.registry.training", "--registry", scene.registry]
            command = [*module, "--name", MODEL, "--held-out", str(scene.held_out)]
            stage.run("training", command, timeout=_TRAIN_SECONDS)
    rows = read_held_out(scene.held_out)
    console.print(f"registered {MODEL} 1 (logistic regression) and 2 (random forest); {len(rows.labels)} rows held out")
    return rows


def _start_router(stage: Stage, scene: Scene, console: Console) -> None:
    _copy_config(scene.config)
    with console.status("starting the router, which fetches, loads and warms up both versions"):
        stage.start("router", _serve_command(scene))
        stage.wait_for("router", lambda: _is_ours(scene), timeout=_START_SECONDS)
        stage.wait_for("router", lambda: answers(f"{scene.admin}/readyz"), timeout=_START_SECONDS)
        _check_loaded(scene)
    for region, url in scene.listen.items():
        console.print(f"{region} at {url}")


def _is_registered(registry: str) -> bool:
    """Whether the registry has both versions: rows held out for an earlier registry are no good for this one."""
    version = f"{registry}/api/2.0/mlflow/model-versions/get?name={MODEL}&version="
    return all(answers(f"{version}{number}") for number in (1, 2))


def _is_ours(scene: Scene) -> bool:
    """Whether the router that was started here listens, and not another one on the same ports."""
    try:
        return str(json.loads(scene.serving.read_bytes())["admin"]) == scene.admin
    except (OSError, ValueError, KeyError):
        return False


def _check_loaded(scene: Scene) -> None:
    shown = httpx.get(f"{scene.admin}/api/v1/models/{MODEL}", timeout=10.0, trust_env=False).json()
    for name, version in shown["versions"].items():
        if version["state"] != "ready":
            raise OperatorError(
                f"version {name} of {MODEL} is {version['state']}: {version.get('reason') or 'no reason given'}",
                hint=f"remove {scene.root} to start afresh",
            )


def _copy_config(config: Path) -> None:
    if not (_EXAMPLE / "models" / f"{MODEL}.yaml").is_file():
        raise OperatorError(f"{_EXAMPLE} holds no example for {MODEL}", hint="run the demo from a checkout")
    (config / "models").mkdir(parents=True, exist_ok=True)
    for name in ("regions.yaml", f"models/{MODEL}.yaml"):
        if (_EXAMPLE / name).is_file():
            shutil.copyfile(_EXAMPLE / name, config / name)


def _serve_command(scene: Scene) -> list[str]:
    listen = [part for region, url in scene.listen.items() for part in ("--listen", f"{region}={_address(url)}")]
    where = ["--config", str(scene.config), "--state", str(scene.root / "state")]
    return [
        *(sys.executable, "-m", "router.cli", "serve", *where, *listen),
        *("--registry", scene.registry, "--admin", _address(scene.admin)),
    ]


def _address(url: str) -> str:
    return url.removeprefix("http://")


def _compare(scene: Scene, rows: HeldOut, console: Console) -> list[Told]:
    visits = [visit for region in ROUNDS for visit in _visits(scene, rows, region)]
    declared = _declared(scene)
    with _progress(console) as progress:
        task = progress.add_task("sending every held-out row", total=len(visits))
        seen = asyncio.run(send(visits, rows, _PATH, lambda _: progress.advance(task)))
    console.print(demo_report.comparison(seen, declared))
    _check_loaded(scene)
    demo_report.check(seen, declared)
    return seen


def _visits(scene: Scene, rows: HeldOut, region: str) -> list[Visit]:
    return [Visit(region, scene.listen[region], number) for number in range(ROUNDS[region] * len(rows.labels))]


def _declared(scene: Scene) -> dict[str, dict[str, int]]:
    config = load_repository(scene.config).configs[MODEL]
    return {
        region: {version: config.weights_in(region).get(version, 0) for version in config.versions} for region in ROUNDS
    }


def _move(stage: Stage, scene: Scene, rows: HeldOut, seen: Sequence[Told], console: Console) -> None:
    before = {told.visit.patient: told.version for told in seen if told.visit.region == EDITED_REGION}
    processes = _router_processes(scene)
    console.print(f"editing {scene.model_file}: {EDITED_REGION} {_shown(EDITED)}, under traffic")
    edited, after = _edit_under_traffic(scene, rows, console)
    stage.check()
    _check_loaded(scene)
    failed = [told for told in after if told.fault]
    if failed:
        raise UpstreamError(f"{len(failed)} requests failed around the edit", hint=f"the first: {failed[0].fault}")
    took = demo_edit.in_force(before, after, CANARY, edited)
    share = demo_edit.check_move(before, after, CANARY, EDITED[CANARY], edited + took)
    if _router_processes(scene) != processes:
        raise UpstreamError("a process of the router was restarted", hint=f"see {stage.logs}")
    console.print(
        f"in force after {1000 * took:.0f} ms; {CANARY} now gets {share:.1f} %; {len(after)} requests, none failed, "
        f"no patient of {CANARY} moved back; the same {len(processes)} processes, none restarted"
    )


def _edit_under_traffic(scene: Scene, rows: HeldOut, console: Console) -> tuple[float, list[Told]]:
    visits = _visits(scene, rows, EDITED_REGION)
    edited: list[float] = []
    with _progress(console) as progress:
        task = progress.add_task("the same patients again", total=len(visits))

        def heard(_: Told) -> None:
            progress.advance(task)
            if not edited and progress.tasks[task].completed >= EDIT_AFTER:
                demo_edit.edit_weights(scene.model_file, EDITED_REGION, EDITED)
                edited.append(CLOCK.monotonic())

        after = asyncio.run(send(visits, rows, _PATH, heard))
    return edited[0], after


def _router_processes(scene: Scene) -> frozenset[int]:
    serving = json.loads(scene.serving.read_bytes())
    return family_of(int(serving["pid"]))


def _shown(weights: Mapping[str, int]) -> str:
    return "/".join(str(weight) for weight in weights.values())


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _keep_serving(stage: Stage, scene: Scene, console: Console) -> None:
    url = scene.listen[EDITED_REGION]
    example = scene.root / "example.json"
    example.write_bytes(read_held_out(scene.held_out).bodies[0])
    console.print("\nstill serving; Ctrl-C ends everything")
    console.print(f"  router    {scene.admin}/\n  metrics   {scene.admin}/metrics\n  registry  {scene.registry}/")
    console.print(f"  weights   edit {scene.model_file}")
    console.print(f"  try       curl -si {url}{_PATH} -H 'x-patient-id: 42' \\\n", end="", soft_wrap=True)
    console.print(f"              -H 'content-type: application/json' -d @{example}", soft_wrap=True)
    try:
        while not threading.Event().wait(0.5):
            stage.check()
    except KeyboardInterrupt:
        console.print("ending")
