"""Whatever dies, the others serve on and it comes back: kill -9 of each kind of process, under load."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from router.core.wire import SnapshotUpdate, decode
from tests.integration.conftest import MlflowServer
from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import StubUpstream
from tests.support.traffic import Traffic
from tests.support.wait import eventually

MODEL = """
model: fraud
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions: {{default: {{v3: 80, v4: 20}}}}
stickiness: {{header: x-key}}
"""


def states_in(snapshot: Path) -> dict[str, str]:
    """The states of the versions of `fraud` in the snapshot that control keeps for workers that start."""
    if not snapshot.exists():
        return {}
    update = decode(snapshot.read_bytes()[4:])
    assert isinstance(update, SnapshotUpdate)
    return {target.version: target.state for target in update.models["fraud"].regions["default"].targets}


def steady(traffic: Traffic, count: int = 100) -> None:
    """Waits until `count` requests in a row were answered well, all of them sent from now on."""
    now = time.monotonic()

    def good() -> bool:
        recent = [result for result in traffic.results[-count:] if result.sent > now]
        return len(recent) == count and all(result.status == 200 for result in recent)

    eventually(good, 20, f"{count} good answers in a row")


def test_a_killed_worker_breaks_only_its_own_connections_and_is_back(tmp_path: Path) -> None:
    connections = 8
    with StubUpstream() as stable, StubUpstream() as canary:
        text = MODEL.format(stable=stable.url, canary=canary.url)
        with RouterProcess(tmp_path, {"fraud": text}, workers=2) as router:
            with Traffic(router.url, "fraud", connections=connections) as traffic:
                steady(traffic)
                before = router.kill("worker-0")
                router.wait_for_restart("worker-0", before)
                steady(traffic)
            assert len(traffic.failed) <= connections
            assert {result.status for result in traffic.failed} <= {0}
            # The new worker takes part again.
            assert len(router.pids("worker-")) == 2


def test_a_killed_control_costs_no_request_and_is_back_with_the_same_weights(tmp_path: Path) -> None:
    with StubUpstream() as stable, StubUpstream() as canary:
        text = MODEL.format(stable=stable.url, canary=canary.url)
        with RouterProcess(tmp_path, {"fraud": text}, workers=2) as router:
            eventually(lambda: router.model("fraud")["effective"].get("v4") == 20, what="v4 has its weight")
            with Traffic(router.url, "fraud") as traffic:
                steady(traffic)
                before = router.kill("control")
                router.wait_for_restart("control", before)
                eventually(lambda: router.get("/readyz")[0] == 200, 20, "control is ready again")
                eventually(lambda: router.model("fraud")["effective"].get("v4") == 20, what="v4 has its weight again")
                router.edit("fraud", text.replace("v3: 80, v4: 20", "v3: 100"))
                eventually(lambda: router.model("fraud")["effective"]["v3"] == 100, what="the edit is in force")
                steady(traffic)
            assert traffic.failed == []


def test_a_worker_that_starts_without_control_gives_stable_everything(tmp_path: Path) -> None:
    with StubUpstream() as stable, StubUpstream() as canary:
        text = MODEL.format(stable=stable.url, canary=canary.url).replace("v3: 80, v4: 20", "v4: 100")
        with RouterProcess(tmp_path, {"fraud": text}, workers=1) as router:
            eventually(lambda: router.predict("fraud").headers.get("x-model-version") == "v4", what="v4 answers")
            kept = Path(router.serving["run"]) / "snapshot.bin"
            eventually(lambda: states_in(kept) == {"v3": "ready", "v4": "ready"}, what="control left its snapshot")
            control = router.children()["control"]["pid"]
            router.kill("control", 19)  # SIGSTOP: control hangs, and is not restarted
            try:
                before = router.kill("worker-0")
                router.wait_for_restart("worker-0", before)
                assert router.predict("fraud").headers["x-model-version"] == "v3"
            finally:
                router.kill("control", 18)  # SIGCONT
            assert router.children()["control"]["pid"] == control
            eventually(lambda: router.predict("fraud").headers["x-model-version"] == "v4", what="v4 answers again")


@pytest.mark.slow
def test_a_killed_pyfunc_server_is_back_and_the_other_version_never_notices(
    tmp_path: Path, mlflow_server: MlflowServer
) -> None:
    text = """
model: wine
versions:
  v1: {model_uri: "models:/wine/1"}
  v2: {model_uri: "models:/wine/2"}
stable: v1
regions: {default: {v1: 50, v2: 50}}
stickiness: {header: x-key}
idempotent: true
"""
    body = json.dumps(mlflow_server.request(0)).encode()
    arguments = ["--registry", mlflow_server.url]
    with RouterProcess(tmp_path, {"wine": text}, arguments=arguments, workers=2) as router:
        eventually(lambda: router.model("wine")["effective"].get("v2") == 50, 60, "v2 has its weight")
        with Traffic(router.url, "wine", rate=60, body=body) as traffic:
            steady(traffic)
            name = next(name for name in router.children() if name.startswith("pyfunc-"))
            before = router.kill(name)
            router.wait_for_restart(name, before)
            steady(traffic)
        assert len({result.version for result in traffic.failed} - {""}) <= 1
        assert {result.status for result in traffic.failed} <= {502, 503, 504}
