"""A rollback stays, whatever dies, is edited or refuses; and only one of two commands wins."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.traffic import Traffic
from tests.support.wait import eventually

MODEL = """\
model: fraud
description: {description}
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions: {{default: {weights}}}
idempotent: true
fallback: stable
guards: {{latency: {{p95: 100x stable}}}}
{rollout}
"""
BY_HAND = "{v3: 90, v4: 10}"
STEPS = """\
rollout:
  canary: v4
  steps: [{weight: 5%, hold: 100h}, {weight: 10%, hold: 100h}, {weight: 20%, hold: 100h}, {weight: 25%, approval: true}]
"""


class Scene:
    """A router whose model can be written anew."""

    def __init__(self, directory: Path, stable: StubUpstream, canary: StubUpstream, **more: Any) -> None:
        self.stable, self.canary = stable, canary
        self.weights, self.rollout = BY_HAND, ""
        self.router = RouterProcess(directory, workers=2, **more)

    def write(self, description: str = "x", **instead: str) -> None:
        """Writes the model; `instead` are other `weights`, `rollout` or `canary`."""
        words = {"weights": self.weights, "rollout": self.rollout, "canary": self.canary.url, **instead}
        self.router.edit("fraud", MODEL.format(description=description, stable=self.stable.url, **words))

    def effective(self) -> float:
        return float(self.router.model("fraud")["effective"]["v4"])

    def rollout_view(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.router.model("fraud")["versions"]["v4"]["rollout"]
        return shown or {}

    def state(self) -> str:
        return str(self.router.model("fraud")["versions"]["v4"]["state"])

    def audit(self) -> list[dict[str, Any]]:
        status, body = self.router.get("/api/v1/audit?model=fraud")
        assert status == 200, body
        entries: list[dict[str, Any]] = json.loads(body)["entries"]
        return entries

    def actions(self) -> list[str]:
        return [entry["action"] for entry in self.audit() if entry["action"] != "config"]

    def settled(self, weight: float) -> None:
        eventually(lambda: self.effective() == weight, 20, f"v4 has {weight} %")


@contextmanager
def scene(directory: Path, *, rollout: str = "", **more: Any) -> Iterator[Scene]:
    with StubUpstream() as stable, StubUpstream() as canary:
        made = Scene(directory, stable, canary, **more)
        if rollout:
            made.weights, made.rollout = "{v3: 100}", rollout
        made.write()
        with made.router:
            yield made


def roll_back_by_failing(scene: Scene) -> None:
    scene.canary.answer = Answer(500)
    with Traffic(scene.router.url, "fraud", rate=150) as traffic:
        eventually(lambda: scene.state() == "rolled_back", what="v4 is rolled back")
    assert traffic.failed == []
    scene.canary.answer = Answer()


def test_a_latch_outlives_edits_and_every_way_to_die_and_readmit_lifts_it(tmp_path: Path) -> None:
    with scene(tmp_path) as at:
        at.settled(10)
        roll_back_by_failing(at)
        at.write("an unrelated edit")
        eventually(lambda: at.router.model("fraud")["description"] == "an unrelated edit", what="the edit is in force")
        assert (at.effective(), at.state()) == (0, "rolled_back")
        before = at.router.kill("control")
        at.router.wait_for_restart("control", before)
        eventually(lambda: at.router.get("/readyz")[0] == 200, 20, "control is back")
        assert (at.effective(), at.state()) == (0, "rolled_back")
        had = len(at.canary.predictions)
        at.router.kill_supervisor()
        at.router.start()
        with Traffic(at.router.url, "fraud", rate=200) as traffic:
            eventually(lambda: len(traffic.results) > 200, what="traffic")
        assert traffic.failed == []
        assert (at.effective(), at.state()) == (0, "rolled_back")
        assert len(at.canary.predictions) == had
        assert at.router.predict("fraud").headers["x-model-version"] == "v3"
        assert at.actions() == ["start", "rollback"]
        status, body = at.router.steer("fraud", "readmit", reason="the disk was full")
        assert (status, body["recorded"], body["rollout"]["phase"]) == (200, True, "idle")
        at.settled(10)
        assert at.audit()[-1]["reason"] == "the disk was full"
        assert at.audit()[-1]["actor"] == "admin"


def test_another_digest_lifts_a_latch_and_git_that_goes_back_and_forth_does_not(tmp_path: Path) -> None:
    with scene(tmp_path) as at, StubUpstream() as other:
        at.settled(10)
        assert at.router.steer("fraud", "rollback", reason="on call")[0] == 200
        at.settled(0)
        at.write(weights="{v3: 100}")
        eventually(lambda: at.router.model("fraud")["declared"]["v4"] == 0, what="v4 is no canary")
        at.write()
        eventually(lambda: at.router.model("fraud")["declared"]["v4"] == 10, what="v4 is a canary again")
        eventually(lambda: at.state() == "rolled_back", what="the latch is told")
        assert at.effective() == 0
        at.write(canary=other.url)
        at.settled(10)


def test_a_second_rollback_is_told_that_it_came_second(tmp_path: Path) -> None:
    with scene(tmp_path) as at:
        at.settled(10)
        answers: list[tuple[int, dict[str, Any]]] = []
        crowd = [
            threading.Thread(target=lambda: answers.append(at.router.steer("fraud", "rollback", reason="now")))
            for _ in range(6)
        ]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409, 409]
        refused = next(body for status, body in answers if status == 409)
        assert (refused["version"], refused["rollout"]["phase"]) == ("v4", "rolled_back")
        assert at.actions() == ["start", "rollback"]


def test_steering_a_rollout_by_hand(tmp_path: Path) -> None:
    with scene(tmp_path, rollout=STEPS) as at:
        at.settled(5)
        view = at.rollout_view()
        assert (view["phase"], view["step"], view["steps"], view["declared"]) == ("holding", 1, 4, {"default": 5.0})
        assert view["countdown"] > 0
        revision = view["revision"]
        answers = [at.router.steer("fraud", "promote", expect=revision) for _ in range(2)]
        assert [status for status, _ in answers] == [200, 409]
        at.settled(10)
        assert at.router.steer("fraud", "pause", reason="lunch")[0] == 200
        assert at.rollout_view()["phase"] == "paused"
        assert at.router.steer("fraud", "pause")[0] == 409
        assert at.router.steer("fraud", "resume")[0] == 200
        assert at.router.steer("fraud", "approve")[0] == 409
        assert at.router.steer("fraud", "readmit")[0] == 409
        assert at.router.steer("fraud", "promote", version="v3")[0] == 404
        assert at.router.steer("nobody", "promote")[0] == 404
        assert at.router.steer("fraud", "promote", region="moon")[0] == 404
        assert at.router.steer("fraud", "promote", token="guessed")[0] == 401
        before = at.router.kill("control")
        at.router.wait_for_restart("control", before)
        eventually(lambda: at.router.get("/readyz")[0] == 200, 20, "control is back")
        at.settled(10)
        assert at.rollout_view()["step"] == 2
        assert at.router.steer("fraud", "promote", all=True)[0] == 200
        at.settled(25)
        assert at.rollout_view()["phase"] == "completed"
        assert at.actions() == ["start", "promote", "pause", "resume", "promote"]
        metrics = at.router.get("/metrics")[1].decode()
        assert 'canary_router_rollout_step{model="fraud",region="default",version="v4"} 4.0' in metrics
        assert 'canary_router_evidence{guard="errors",model="fraud",version="v4"} 1.0' in metrics
        head = json.loads(at.router.get("/api/v1/audit")[1])["head"]
        assert f'canary_router_audit_head{{hash="{head["hash"]}"}} {head["sequence"]}.0' in metrics


@contextmanager
def refusing(database: Path) -> Iterator[None]:
    """The store refuses every write, as a full disk would; it can be read."""
    with sqlite3.connect(database) as other:
        for table in ("state", "audit"):
            for what in ("INSERT", "UPDATE"):
                other.execute(
                    f"CREATE TRIGGER full_{table}_{what} BEFORE {what} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
                )
        triggers = [row[0] for row in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    other.close()
    try:
        yield
    finally:
        with sqlite3.connect(database) as other:
            for trigger in triggers:
                other.execute(f"DROP TRIGGER {trigger}")
        other.close()


def test_a_store_that_refuses_stops_no_rollback_and_has_it_once_it_recovers(tmp_path: Path) -> None:
    with scene(tmp_path, rollout=STEPS) as at:
        at.settled(5)
        with refusing(at.router.state / "canary-router.db"):
            status, body = at.router.steer("fraud", "promote")
            assert status == 507, body
            assert at.effective() == 5
            roll_back_by_failing(at)
            at.settled(0)
            assert at.actions() == ["start"]
            assert at.router.steer("fraud", "readmit")[0] == 507
            metrics = at.router.get("/metrics")[1].decode()
            assert "canary_router_store_unwritten_rollbacks 1.0" in metrics
            assert json.loads(at.router.get("/api/v1/models")[1])["problems"]
            # A control that starts anew finds the rollback in what the workers hold.
            before = at.router.kill("control")
            at.router.wait_for_restart("control", before)
            eventually(lambda: at.router.get("/readyz")[0] == 200, 20, "control is back")
            eventually(lambda: at.state() == "rolled_back", what="it is still rolled back")
            assert at.effective() == 0
        eventually(lambda: at.actions() == ["start", "rollback"], 30, "the rollback is in the audit trail")
        assert at.router.steer("fraud", "readmit")[0] == 200
        at.settled(5)
        assert at.actions() == ["start", "rollback", "readmit"]


@pytest.mark.parametrize("action", ["rollback", "promote"])
def test_a_death_around_a_decision_loses_doubles_and_halves_nothing(tmp_path: Path, action: str) -> None:
    with scene(tmp_path, rollout=STEPS) as at:
        at.settled(5)
        for number, pause in enumerate((0.0, 0.004, 0.02)):
            done = threading.Thread(target=lambda: at.router.steer("fraud", action))
            done.start()
            threading.Event().wait(pause)
            if number % 2:
                at.router.kill_supervisor()
            else:
                at.router.kill("control")
            done.join()
            if number % 2:
                at.router.start()
            eventually(lambda: at.router.get("/readyz")[0] == 200, 30, "control is back")
            eventually(lambda: at.rollout_view().get("revision"), 20, "its state is known")
            actions = at.actions()
            if action == "rollback":
                assert actions.count("rollback") - actions.count("readmit") in {0, 1}
                expected = 0.0 if actions[-1] == "rollback" else 5.0
                at.settled(expected)
                if expected == 0:
                    assert at.router.steer("fraud", "readmit")[0] == 200
                at.settled(5)
            else:
                steps = [5.0, 10.0, 20.0, 25.0, 25.0]
                at.settled(steps[actions.count("promote")])
                assert at.rollout_view()["step"] == 1 + actions.count("promote")
