"""`canary-router doctor`: what this machine and its surroundings lack for a router, and how to mend it.

Rules:
1. Nothing is changed: what is tried (a port, a file in the state directory) is undone at once.
2. Every finding that is not `ok` says how to mend it. Exit 1 where one of them would keep a router from working.
3. A running router on the same state directory is no problem: what it holds is its own.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from router.cli import doctor_machine as machine
from router.cli import doctor_reach as reach
from router.cli.findings import Finding
from router.cli.output import clean, output_option, render
from router.config.load import load_repository
from router.config.settings import Settings, load_settings
from router.errors import OperatorError

HEADER = ("CHECK", "STATE", "FOUND")


@click.command()
@click.option("--config", type=Path, metavar="DIR", help="The config repository, which holds models/.")
@click.option("--settings", type=Path, metavar="FILE", help="router.yaml.  [default: DIR/router.yaml, if there is one]")
@click.option("--state", type=Path, metavar="DIR", help="The state directory.")
@click.option("--registry", metavar="URL", help="The MLflow registry.")
@output_option
@click.pass_context
def doctor(
    context: click.Context,
    config: Path | None,
    settings: Path | None,
    state: Path | None,
    registry: str | None,
    output: str,
) -> None:
    """Check registry, git, ports, state directory, clock and file limits, and say how to mend what is wrong."""
    findings = examine(config, settings, {"state": state, "registry": registry, "config": config})
    rows = [[each.check, each.state, each.found] for each in findings]
    click.echo(render({"findings": [asdict(each) for each in findings]}, HEADER, rows, output))
    if output == "table":
        for each in findings:
            if each.remedy:
                click.echo(clean(f"{each.check}: {each.remedy}"))
    context.exit(1 if any(each.state == "failed" for each in findings) else 0)


def examine(config: Path | None, file: Path | None, flags: dict[str, object]) -> list[Finding]:
    """Every finding, in the order in which they matter."""
    root = config or Path(os.environ.get("CANARY_ROUTER_CONFIG") or "config")
    beside = root / "router.yaml"
    try:
        settings = load_settings(file or (beside if beside.is_file() else None), os.environ, flags)
    except OperatorError as error:
        message, *more = error.message.splitlines()
        return [Finding("settings", "failed", message, "; ".join(line.strip() for line in more) or error.hint)]
    return [Finding("settings", "ok", "they can be read"), *_configs(root, settings), *_surroundings(root, settings)]


def _configs(root: Path, settings: Settings) -> list[Finding]:
    loaded = load_repository(root)
    count = f"{loaded.examined} model{'' if loaded.examined == 1 else 's'} in {root}"
    if loaded.problems:
        first = f"{count}, {len(loaded.problems)} problems, the first: {loaded.problems[0]}"
        configs = Finding("configs", "failed", first, f"see them all with: canary-router validate {root}")
    else:
        configs = Finding("configs", "ok", count)
    needs_registry = sorted(
        name
        for name, model in loaded.configs.items()
        if any((version.model_uri or "").startswith(("models:", "runs:")) for version in model.versions.values())
    )
    return [configs, reach.registry(settings.registry, needs_registry)]


def _surroundings(root: Path, settings: Settings) -> list[Finding]:
    running = machine.running_router(settings.state)
    return [
        reach.git(root),
        *(reach.port(f"port {region}", address, running) for region, address in settings.listen.items()),
        reach.port("port admin", settings.admin, running),
        machine.state_directory(settings.state, running),
        machine.clock(),
        *machine.limits(),
    ]
