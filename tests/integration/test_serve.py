"""A whole router, as the command line starts it, in front of a stub model server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.router_process import ROOT, RouterProcess
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.wait import eventually


def forwarding(model: str, url: str) -> str:
    """The config of a model with one forwarded version."""
    return f"model: {model}\nversions:\n  v1:\n    upstreams: [{url}]\nstable: v1\nregions:\n  default: {{v1: 100}}\n"


def status(router: RouterProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`canary-router status` against `router`."""
    return subprocess.run(
        [sys.executable, "-m", "router.cli", "status", "--state", str(router.state), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


def test_a_prediction_goes_through_and_status_shows_it(tmp_path: Path) -> None:
    with StubUpstream() as upstream:
        upstream.answer = Answer(body=b'{"predictions": [42]}')
        with RouterProcess(tmp_path, {"fraud": forwarding("fraud", upstream.url)}, workers=2) as router:
            reply = router.predict("fraud", b'{"inputs": [1]}')
            assert (reply.status, reply.body) == (200, b'{"predictions": [42]}')
            assert reply.headers["x-model-version"] == "v1"
            assert [request.body for request in upstream.predictions] == [b'{"inputs": [1]}']
            eventually(lambda: router.model("fraud")["versions"]["v1"]["counts"].get("ok") == 1)
            shown = status(router)
            assert shown.returncode == 0, shown.stderr
            _, row = shown.stdout.splitlines()
            assert row.split()[:5] == ["fraud", "default", "v1", "stable", "ready"]
            assert row.split()[5:] == ["100", "%"] * 3 + ["1", "0", "-"]
            assert json.loads(status(router, "fraud", "-o", "json").stdout)["model"] == "fraud"
            unknown = status(router, "nothing")
            assert unknown.returncode == 1
            assert "Traceback" not in unknown.stderr


def test_an_edit_is_applied_while_serving_and_a_mistake_is_not(tmp_path: Path) -> None:
    with StubUpstream() as old, StubUpstream() as new:
        old.answer, new.answer = Answer(body=b'"old"'), Answer(body=b'"new"')
        with RouterProcess(tmp_path, {"fraud": forwarding("fraud", old.url)}) as router:
            assert router.predict("fraud").body == b'"old"'
            router.edit("fraud", "model: fraud\nversions: []\n")
            eventually(lambda: router.model("fraud")["config"]["problems"])
            assert router.predict("fraud").body == b'"old"'
            router.edit("fraud", forwarding("fraud", new.url))
            eventually(lambda: router.predict("fraud").body == b'"new"')
            assert router.model("fraud")["config"]["problems"] == []


def test_an_empty_repository_starts_and_a_first_model_is_served(tmp_path: Path) -> None:
    with StubUpstream() as upstream, RouterProcess(tmp_path, ready=False) as router:
        assert eventually(lambda: router.get("/readyz")[0] == 503)
        assert router.predict("fraud").status == 404
        router.edit("fraud", forwarding("fraud", upstream.url))
        eventually(lambda: router.predict("fraud").status == 200)


@pytest.mark.parametrize("program", ["control", "worker-0"])
def test_a_killed_process_is_back_by_itself(tmp_path: Path, program: str) -> None:
    with (
        StubUpstream() as upstream,
        RouterProcess(tmp_path, {"fraud": forwarding("fraud", upstream.url)}, workers=2) as router,
    ):
        before = router.kill(program)
        assert eventually(lambda: router.predict("fraud").status == 200)
        router.wait_for_restart(program, before)
        eventually(lambda: router.get("/readyz")[0] == 200)
        assert router.predict("fraud").status == 200


def test_killing_the_supervisor_ends_everything_and_the_next_one_serves(tmp_path: Path) -> None:
    with StubUpstream() as upstream:
        router = RouterProcess(tmp_path, {"fraud": forwarding("fraud", upstream.url)})
        with router:
            router.kill_supervisor()
        with router:
            assert router.predict("fraud").status == 200


def test_whoever_asks_once_it_is_ready_finds_every_model_at_its_weights(tmp_path: Path) -> None:
    with StubUpstream() as stable, StubUpstream() as canary:
        text = (
            "model: {model}\nversions:\n  v1: {{upstreams: [{stable}]}}\n  v2: {{upstreams: [{canary}]}}\n"
            "stable: v1\nregions:\n  default: {{v1: 50, v2: 50}}\n"
        )
        names = [f"m{number}" for number in range(150)]
        models = {name: text.format(model=name, stable=stable.url, canary=canary.url) for name in names}
        with RouterProcess(tmp_path, models) as router:
            shown = {model["model"]: model for model in json.loads(router.get("/api/v1/models")[1])["models"]}
            assert [router.predict(name).status for name in names] == [200] * len(names)
    assert {name: shown[name]["regions"]["default"]["effective"] for name in shown} == {
        name: {"v1": 50, "v2": 50} for name in names
    }
