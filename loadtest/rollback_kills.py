"""SIGKILL at random moments around a rollback and a promotion: `python -m loadtest.rollback_kills [--rounds 200]`.

Rules:
1. A round: a decision is under way (a canary that fails under load, or a command), and after a random time control
   alone, or the supervisor and so the whole tree, is killed. Moments come from a seed that is printed.
2. After the restart the audit trail, the state and the weights must tell the same: as many entries as effects, none of
   them twice, and the chain whole. No client may have seen a failed request while only control died.
3. From the kill of the whole tree until the state was read, no request may reach the canary of a rolled-back round.
4. It exits 1 with the rounds that went wrong, and their routers' logs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.traffic import Traffic
from tests.support.wait import eventually

MODEL = """\
model: fraud
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions: {{default: {{v3: 100}}}}
idempotent: true
fallback: stable
guards: {{latency: {{p95: 100x stable}}}}
rollout:
  canary: v4
  steps: [{{weight: 10%, hold: 100h}}, {{weight: 20%, hold: 100h}}, {{weight: 25%, hold: 100h}}]
"""
WEIGHTS = (10.0, 20.0, 25.0)
LONGEST = 0.6
"""Seconds after a decision was provoked; by then it is in force for long."""

What = Literal["rollback", "command", "promote"]
Whom = Literal["control", "tree"]


@dataclass
class Rig:
    """A router with a rollout, and what went wrong."""

    router: RouterProcess
    canary: StubUpstream
    wrong: list[str] = field(default_factory=list)

    def entries(self) -> list[dict[str, Any]]:
        """The audit trail of the model, less the config's own entries."""
        status, body = self.router.get("/api/v1/audit?model=fraud")
        assert status == 200, body
        entries: list[dict[str, Any]] = json.loads(body)["entries"]
        return [entry for entry in entries if entry["action"] != "config"]

    def rollout(self) -> dict[str, Any]:
        """Where the canary stands; empty while that is not known."""
        shown: dict[str, Any] = self.router.model("fraud")["versions"]["v4"]
        return shown["rollout"] or {}

    def weight(self) -> float:
        """The canary's effective weight in percent."""
        return float(self.router.model("fraud")["effective"]["v4"])

    def begin_anew(self) -> None:
        """Back to the first step, whatever there is."""
        self.canary.answer = Answer()
        if self.rollout()["phase"] != "rolled_back":
            self.router.steer("fraud", "rollback", reason="a new round")
        eventually(self._readmitted, 20, "it is readmitted")
        eventually(lambda: self.weight() == WEIGHTS[0], 20, "the first step")

    def _readmitted(self) -> bool:
        # What the last round decided may still be on its way to the disk: then this comes second, and is told so.
        status, body = self.router.steer("fraud", "readmit", reason="a new round")
        assert status in {200, 409}, (status, body)
        return status == 200


@contextmanager
def rigged(directory: Path) -> Iterator[Rig]:
    """A router whose canary is in its first step."""
    with StubUpstream() as stable, StubUpstream() as canary:
        text = MODEL.format(stable=stable.url, canary=canary.url)
        with RouterProcess(directory, {"fraud": text}, workers=2) as router:
            rig = Rig(router, canary)
            eventually(lambda: rig.weight() == WEIGHTS[0], 20, "the first step")
            yield rig


def play(rig: Rig, what: What, whom: Whom, pause: float) -> list[str]:
    """One round (rule 1); what went wrong."""
    rig.begin_anew()
    before = len(rig.entries())
    with Traffic(rig.router.url, "fraud", rate=200) as traffic:
        provoked = _provoke(rig, what)
        time.sleep(pause)
        _kill(rig, whom, traffic)
        provoked.join()
        _settle(rig)
        traffic.stop()
    # What workers had still to tell when control came back may have decided something since the last look.
    decided = _settle(rig)
    wrong = [f"clients saw {len(traffic.failed)} failures"] if traffic.failed and whom == "control" else []
    return [*wrong, *_judge(what, rig.entries()[before:], decided)]


def _provoke(rig: Rig, what: What) -> threading.Thread:
    def fail() -> None:
        rig.canary.answer = Answer(500)

    actions: dict[What, Callable[[], object]] = {
        "rollback": fail,
        "command": lambda: rig.router.steer("fraud", "rollback", reason="a round"),
        "promote": lambda: rig.router.steer("fraud", "promote", reason="a round"),
    }
    thread = threading.Thread(target=actions[what])
    thread.start()
    return thread


def _kill(rig: Rig, whom: Whom, traffic: Traffic) -> None:
    if whom == "control":
        before = rig.router.kill("control")
        rig.router.wait_for_restart("control", before)
        eventually(lambda: rig.router.get("/readyz")[0] == 200, 30, "control is back")
        return
    traffic.stop()
    rig.router.kill_supervisor()
    rig.router.start()


def _settle(rig: Rig) -> dict[str, Any]:
    """Where the canary stands once that is known and in force; its failures stop first."""
    rig.canary.answer = Answer()
    eventually(lambda: rig.rollout(), 20, "its state is known")

    def in_force() -> dict[str, Any]:
        shown = rig.rollout()
        wanted = 0.0 if shown["phase"] == "rolled_back" else shown["declared"]["default"]
        return shown if shown and rig.weight() == wanted and not shown["pending"] else {}

    return eventually(in_force, 20, "its state is in force")


def _judge(what: What, entries: list[dict[str, Any]], shown: dict[str, Any]) -> list[str]:
    """Rule 2: what the trail and the state do not agree on."""
    actions = [entry["action"] for entry in entries]
    expected = "promote" if what == "promote" else "rollback"
    wrong = []
    if actions not in ([], [expected]):
        wrong.append(f"the trail tells {actions}")
    if expected == "rollback" and (shown["phase"] == "rolled_back") != (actions == ["rollback"]):
        wrong.append(f"the phase is {shown['phase']} and the trail tells {actions}")
    if expected == "promote" and shown["step"] != 1 + len(actions):
        wrong.append(f"the step is {shown['step']} and the trail tells {actions}")
    if entries and entries[-1]["after"]["revision"] != shown["revision"]:
        wrong.append(
            f"the trail ends with revision {entries[-1]['after']['revision']}, in force is {shown['revision']}"
        )
    return wrong


def main() -> int:
    """Plays all rounds; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.rollback_kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="of each: what is decided, and who is killed")
    parser.add_argument("--seed", type=int, default=20260401)
    parser.add_argument("--what", nargs="+", choices=get_args(What), default=get_args(What), help="what is decided")
    parser.add_argument("--whom", nargs="+", choices=get_args(Whom), default=get_args(Whom), help="who is killed")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as directory, rigged(Path(directory)) as rig:
        for what in arguments.what:
            for whom in arguments.whom:
                wrong = [
                    (pause, found)
                    for pause in (moments.uniform(0.0, LONGEST if what == "rollback" else 0.05)
                                  for _ in range(arguments.rounds))
                    if (found := play(rig, what, whom, pause))
                ]  # fmt: skip
                failed += len(wrong)
                print(f"{what:9} {whom:8} {arguments.rounds} rounds, {len(wrong)} wrong", flush=True)
                for pause, found in wrong:
                    print(f"  after {pause * 1000:.1f} ms: {'; '.join(found)}")
        if failed:
            print(rig.router.log[-20_000:])
    print(f"seed {arguments.seed}: {failed} rounds went wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
