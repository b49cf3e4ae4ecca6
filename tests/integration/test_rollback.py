"""A canary that goes bad, on a real router over real sockets: how soon it is gone, and what clients see of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import Answer, Request, StubUpstream
from tests.support.traffic import Traffic
from tests.support.wait import eventually

MODEL = """\
model: fraud
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions: {{default: {{v3: 90, v4: 10}}}}
timeout: 2s
idempotent: true
fallback: stable
# Nothing here is about latency, and the machine of a test may be busy.
guards: {{latency: {{p95: {slow}x stable}}}}
"""

GOOD = Answer()
TRACE = json.dumps({"error_code": "BAD_REQUEST", "message": "x", "stack_trace": "Traceback"}).encode()


@dataclass
class Stage:
    """A router, its two model servers, and what the canary was asked since it turned bad."""

    router: RouterProcess
    stable: StubUpstream
    canary: StubUpstream

    def turn(self, answer: Answer) -> tuple[float, int]:
        """From now on the canary answers so; returns when, and how many requests it had until then."""
        had = len(self.canary.predictions)
        self.canary.answer = answer
        return time.monotonic(), had

    def weight(self) -> float:
        """The canary's effective weight in percent."""
        return float(self.router.model("fraud")["effective"]["v4"])

    def version(self) -> dict[str, Any]:
        """What the API shows of the canary."""
        shown: dict[str, Any] = self.router.model("fraud")["versions"]["v4"]
        return shown

    def rolled_back(self, within: float = 15.0) -> dict[str, Any]:
        """What the API shows once it is rolled back."""
        eventually(lambda: self.version()["state"] == "rolled_back", within, "v4 is rolled back")
        assert self.weight() == 0
        return self.version()

    def audit(self, action: str = "rollback") -> list[dict[str, Any]]:
        """The audit entries of `action`."""
        status, body = self.router.get("/api/v1/audit?model=fraud")
        assert status == 200, body
        return [entry for entry in json.loads(body)["entries"] if entry["action"] == action]


@contextmanager
def staged(directory: Path, *, workers: int = 2, slow: str = "100", **more: Any) -> Iterator[Stage]:
    with StubUpstream() as stable, StubUpstream() as canary:
        text = MODEL.format(stable=stable.url, canary=canary.url, slow=slow)
        with RouterProcess(directory, {"fraud": text}, workers=workers, **more) as router:
            stage = Stage(router, stable, canary)
            eventually(lambda: stage.weight() == 10, what="v4 has its weight")
            yield stage


def enough(traffic: Traffic, count: int = 150) -> None:
    """Waits until `count` more requests were answered."""
    had = len(traffic.results)
    eventually(lambda: len(traffic.results) >= had + count, 30, f"{count} answers")


@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(400, TRACE), Answer(503, drop=True)],
    ids=["every-500", "stack-traces", "closes"],
)
def test_a_dead_canary_is_gone_by_its_eighth_failure_and_no_client_sees_one(tmp_path: Path, answer: Answer) -> None:
    with staged(tmp_path) as stage, Traffic(stage.router.url, "fraud", rate=150) as traffic:
        enough(traffic)
        _, had = stage.turn(answer)
        shown = stage.rolled_back()
        failures = shown["evidence"]["errors"]["bad_canary"]
        enough(traffic)
        traffic.stop()
        assert failures <= 8
        assert traffic.failed == []
        assert "errors" in shown["verdict"]["reason"]
        # What was on its way when the deciding failure came is all that may still arrive.
        assert len(stage.canary.predictions) - had <= failures + 4
        (entry,) = stage.audit()
        assert entry["actor"] == "router"
        assert entry["before"]["weights"] == {"default": 10.0}
        assert entry["after"]["weights"] == {"default": 0.0}
        assert {reading["guard"] for reading in entry["evidence"]["readings"]} >= {"errors", "absolute", "latency"}


def test_a_canary_that_refuses_connections_is_gone_within_250_ms_of_the_deciding_failure(tmp_path: Path) -> None:
    with staged(tmp_path) as stage, Traffic(stage.router.url, "fraud", rate=150) as traffic:
        enough(traffic)
        stage.canary.refuse()
        shown = stage.rolled_back()
        assert shown["evidence"]["errors"]["bad_canary"] <= 8
        stage.canary.listen()
        enough(traffic)
        traffic.stop()
        assert traffic.failed == []


def test_the_workers_hold_weight_0_within_250_ms_of_the_deciding_failure(tmp_path: Path) -> None:
    with staged(tmp_path) as stage, Traffic(stage.router.url, "fraud", rate=300, connections=16) as traffic:
        enough(traffic)
        arrivals: list[float] = []

        def failing(request: Request) -> Answer:
            if request.method == "POST":
                arrivals.append(time.monotonic())
                return Answer(500)
            return GOOD

        stage.canary.answer = failing
        shown = stage.rolled_back()
        enough(traffic)
        traffic.stop()
        deciding = arrivals[shown["evidence"]["errors"]["bad_canary"] - 1]
        assert arrivals[-1] - deciding <= 0.25
        assert traffic.failed == []


def test_a_canary_that_never_answers_is_gone_within_a_second_of_its_first_request(tmp_path: Path) -> None:
    with staged(tmp_path, slow="1.25") as stage:
        stage.stable.answer = stage.canary.answer = Answer(delay=0.02)
        with Traffic(stage.router.url, "fraud", rate=400, connections=64) as traffic:
            enough(traffic, 2000)
            eventually(lambda: not stage.version()["evidence"]["latency"]["fired"], what="no false alarm")
            arrivals: list[float] = []

            def hanging(request: Request) -> Answer:
                if request.method == "POST":
                    arrivals.append(time.monotonic())
                    return Answer(hold=True)
                return GOOD

            stage.canary.answer = hanging
            shown = stage.rolled_back()
            enough(traffic, 400)
            traffic.stop()
        assert shown["verdict"]["guard"] == "latency"
        assert arrivals[-1] - arrivals[0] <= 1.0
        assert traffic.failed == []


def test_a_broken_signature_is_seen_by_its_twelfth_rejection_and_by_no_client(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        count = iter(range(10**9))
        # One in a hundred of stable's requests is the client's own mistake.
        stage.stable.answer = lambda request: (
            Answer(422, b'{"error": "x"}') if request.method == "POST" and next(count) % 100 == 99 else GOOD
        )
        with Traffic(stage.router.url, "fraud", rate=200) as traffic:
            enough(traffic, 300)
            stage.turn(Answer(422, b'{"error": "signature"}'))
            shown = stage.rolled_back()
            enough(traffic)
            traffic.stop()
        assert shown["verdict"]["guard"] in {"rejections"}
        assert shown["evidence"]["rejections"]["bad_canary"] <= 12
        assert {result.status for result in traffic.results if result.version == "v4"} <= {200}
        assert len(traffic.failed) <= len(traffic.results) / 100 + 1
        assert {result.status for result in traffic.failed} <= {422}


def test_without_traffic_nothing_happens_and_the_status_says_what_is_missing(tmp_path: Path) -> None:
    with staged(tmp_path, workers=1) as stage:
        eventually(lambda: stage.version()["verdict"] is not None, what="it was looked at")
        shown = stage.version()
        assert (shown["state"], shown["verdict"]["kind"]) == ("ready", "inconclusive")
        assert "no requests of the canary" in shown["verdict"]["reason"]
        assert shown["verdict"]["missing"]
        assert stage.audit() == []
