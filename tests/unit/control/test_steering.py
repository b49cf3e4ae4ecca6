"""Outcomes in, steps out: what is decided, and what a canary may have meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from router.config.schema import ModelConfig, PromoteWhen, Rollout, Version
from router.config.schema import Step as ConfigStep
from router.control.canary import KeptEvidence, Step
from router.control.steering import FEW, Steering, merged
from router.core.outcome import FAILURE, Arm, ArmBatch, BadEvent, OutcomeBatch, histogram_of
from router.core.rollout_state import Command, Refused, encode
from router.core.snapshot import Endpoint, ModelRoute, VersionFacts, compile_model
from router.store.base import Versioned
from tests.unit.control.fakes import FakeClock

URLS = {"default": ("http://v",)}
STABLE = Arm("fraud", "default", "v3", "d3", 9000, 9000, canary=False, rivals=(("v4", "d4", 1000),))
CANARY = Arm("fraud", "default", "v4", "d4", 1000, 9000, canary=True)
ROLLOUT = Rollout(
    canary="v4",
    steps=(ConfigStep(weight=1000, hold=10.0), ConfigStep(weight=2000, hold=10.0, approval=True)),
    promote_when=PromoteWhen(min_requests=5),
)


def config(canary: int = 1000, rollout: Rollout | None = None, stable: str = "v3") -> ModelConfig:
    return ModelConfig(
        model="fraud",
        versions={name: Version(upstreams=URLS) for name in ("v3", "v4", "v5")},
        stable={"default": stable},
        regions={} if rollout else {"default": {stable: 10_000 - canary, "v4": canary}},
        rollout=rollout,
    )


class Bridge:
    """A steering, and what its controller would do."""

    def __init__(self, *, recalled: bool = True) -> None:
        self.clock = FakeClock()
        self.steering = Steering(("default",), self.clock)
        if recalled:
            self.steering.recall({}, {})
        self.number = 0
        self.digests = {"v3": "d3", "v4": "d4", "v5": "d5"}

    def see(self, made: ModelConfig) -> ModelRoute:
        """A config was read and compiled."""
        endpoint = (Endpoint("tcp", "127.0.0.1", 1),)
        facts = {(name, "default"): VersionFacts("ready", endpoint, self.digests[name]) for name in made.versions}
        self.steering.configure(made, facts)
        route = compile_model(
            made, ("default",), self.steering.admitted(made, facts, {}), {}, digest="c",
            weights=self.steering.weights("fraud"), rolled_back=self.steering.rolled_back("fraud"),
        )  # fmt: skip
        route = self.steering.bounded(route)
        self.steering.compiled(route)
        return route

    def weights(self, made: ModelConfig) -> Mapping[str, int]:
        """The effective weights after another look at `made`."""
        return {target.version: target.weight for target in self.see(made).regions["default"].targets}

    def settle(self) -> list[str]:
        """Puts every step in force; what they were."""
        steps = self.steering.take()
        for step in steps:
            step.canary.take(step)
        return [step.decision.move for step in steps]

    def batch(self, *bad: BadEvent, good: int = 0) -> None:
        """A worker's batch: `good` requests of the canary and nine times as many of stable, and `bad` ones."""
        self.number += 1
        arms = (
            ArmBatch(CANARY, ((200, "ok", True, good),)),
            ArmBatch(STABLE, ((200, "ok", True, 9 * good),)),
        )
        self.steering.observe(OutcomeBatch(0, 1, self.number, arms, bad=bad))

    def tick(self, seconds: float) -> list[str]:
        """Time passes; the moves that came of it, which are in force."""
        self.clock.advance(seconds)
        self.steering.tick()
        return self.settle()


def failure(arm: Arm = CANARY) -> BadEvent:
    return BadEvent(arm, FAILURE, 0, 0.01)


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


def test_a_canary_gets_weight_once_its_first_state_is_written(bridge: Bridge) -> None:
    assert bridge.weights(config()) == {"v3": 10_000, "v4": 0, "v5": 0}
    assert bridge.settle() == ["start"]
    assert bridge.weights(config()) == {"v3": 9000, "v4": 1000, "v5": 0}
    assert bridge.settle() == []


def test_before_the_store_was_read_no_canary_has_weight() -> None:
    bridge = Bridge(recalled=False)
    assert bridge.weights(config()) == {"v3": 10_000, "v4": 0, "v5": 0}
    assert bridge.settle() == []
    bridge.steering.recall({}, {})
    bridge.see(config())
    assert bridge.settle() == ["start"]


def test_failures_of_the_canary_alone_roll_it_back_at_once(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    for _ in range(20):
        bridge.batch(good=10)
    failures = 0
    while not bridge.steering.steps:
        bridge.batch(failure())
        failures += 1
    assert failures <= 6
    (step,) = bridge.steering.steps
    assert (step.decision.move, step.at_once, step.cause) == ("rollback", True, "errors")
    # In force in memory before anybody wrote it.
    assert bridge.weights(config())["v4"] == 0
    assert bridge.see(config()).regions["default"].targets[1].state == "rolled_back"


def test_failures_of_both_roll_nothing_back(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    for _ in range(50):
        bridge.batch(failure(), *(failure(STABLE) for _ in range(9)), good=1)
    assert bridge.settle() == []


def test_outcomes_of_another_canary_or_beside_another_stable_are_none_of_it(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    other = msgspec.structs.replace(CANARY, digest="old")
    for _ in range(20):
        bridge.batch(failure(other))
    assert bridge.settle() == []
    evidence = bridge.steering.canaries("fraud")["v4"].evidence
    assert evidence is not None
    assert evidence.readings()[0].bad_canary == 0


def test_another_stable_starts_the_evidence_anew(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    bridge.batch(failure(), good=10)
    canary = bridge.steering.canaries("fraud")["v4"]
    assert canary.evidence is not None
    assert canary.evidence.requests == 10
    bridge.see(config(stable="v5"))
    assert canary.evidence.requests == 0


def test_a_latch_and_its_evidence_come_back_from_the_store(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    bridge.batch(failure(), good=10)
    before = bridge.steering.canaries("fraud")["v4"]
    step = bridge.steering.command("fraud", "v4", Command("rollback", "x"), "alice")
    assert isinstance(step, Step)
    kept = before.keeps()
    assert before.state is not None
    again = Bridge(recalled=False)
    again.steering.recall(
        {("fraud", "v4"): Versioned(encode(before.state), 7), ("fraud", ""): Versioned(b"digest", 1)},
        {("fraud", "v4"): Versioned(msgspec.msgpack.encode(kept), 8)},
    )
    assert again.weights(config())["v4"] == 0
    after = again.steering.canaries("fraud")["v4"]
    assert (after.rolled_back, after.revisions.rollout, after.revisions.evidence) == (True, 7, 8)
    assert after.evidence is not None
    assert after.evidence.requests == 10
    assert isinstance(kept, KeptEvidence)
    # Another digest lifts it, and knows nothing of it.
    again.digests["v4"] = "d4 anew"
    again.see(config())
    assert again.settle() == ["start"]
    assert again.weights(config())["v4"] == 1000


def test_a_canary_that_left_the_config_and_comes_back_is_still_rolled_back(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.steering.command("fraud", "v4", Command("rollback"), "alice")
    bridge.see(config(canary=0))
    assert bridge.steering.canaries("fraud") == {}
    assert bridge.weights(config())["v4"] == 0


def test_a_rollback_that_only_the_workers_know_of_is_one(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.steering.command("fraud", "v4", Command("rollback"), "alice")
    held = bridge.see(config())
    known = bridge.steering.canaries("fraud")["v4"].state
    assert known is not None
    again = Bridge(recalled=False)
    before = msgspec.structs.replace(known, phase="idle", revision=known.revision - 1)
    again.steering.recall({("fraud", "v4"): Versioned(encode(before), 1)}, {})
    again.steering.was_held_back(held)
    assert again.weights(config())["v4"] == 0
    assert again.settle() == ["rollback"]
    later = Bridge(recalled=False)
    readmitted = msgspec.structs.replace(known, phase="idle", revision=known.revision + 1)
    later.steering.recall({("fraud", "v4"): Versioned(encode(readmitted), 3)}, {})
    later.steering.was_held_back(held)
    assert later.weights(config())["v4"] == 1000


def test_a_rollout_goes_from_step_to_step_as_time_and_requests_come(bridge: Bridge) -> None:
    made = config(rollout=ROLLOUT)
    bridge.see(made)
    assert bridge.settle() == ["start"]
    assert bridge.weights(made)["v4"] == 1000
    assert bridge.tick(0.5) == []
    bridge.batch(good=10)
    assert bridge.tick(5.0) == []
    assert bridge.tick(5.0) == ["ask"]
    step = bridge.steering.command("fraud", "v4", Command("approve"), "alice")
    assert isinstance(step, Step)
    assert bridge.weights(made)["v4"] == 1000
    step.canary.take(step)
    assert bridge.weights(made)["v4"] == 2000


def test_one_change_at_a_time_but_a_rollback_comes_in_any_case(bridge: Bridge) -> None:
    made = config(rollout=ROLLOUT)
    bridge.see(made)
    bridge.settle()
    bridge.see(made)
    first = bridge.steering.command("fraud", "v4", Command("promote"), "alice")
    second = bridge.steering.command("fraud", "v4", Command("promote"), "bob")
    assert isinstance(first, Step)
    assert isinstance(second, Refused)
    last = bridge.steering.command("fraud", "v4", Command("rollback"), "carol")
    assert isinstance(last, Step)
    assert last.before == first.decision.state
    assert not first.canary.take(first)
    assert bridge.weights(made)["v4"] == 0


def test_stables_own_pace_sets_from_when_on_requests_are_slow(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    arms = (ArmBatch(STABLE, ((200, "ok", True, 1000),), duration=histogram_of([0.02] * 1000)),)
    assert bridge.steering.observe(OutcomeBatch(0, 1, 1, arms)) == set()
    assert bridge.steering.tick() == {"fraud"}
    stable, canary, _ = bridge.see(config()).regions["default"].targets
    assert 0.01 < stable.slow_after < 0.025
    assert canary.slow_after == pytest.approx(1.25 * stable.slow_after)


def test_readmission_starts_the_evidence_anew(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    bridge.batch(good=10)
    bridge.steering.command("fraud", "v4", Command("rollback"), "alice")
    step = bridge.steering.command("fraud", "v4", Command("readmit"), "alice")
    assert isinstance(step, Step)
    assert step.canary.take(step)
    assert step.canary.evidence is not None
    assert step.canary.evidence.requests == 0
    assert bridge.weights(config())["v4"] == 1000


def renamed() -> ModelConfig:
    """v4 of `config()` under the name v5."""
    return ModelConfig(
        model="fraud",
        versions={name: Version(upstreams=URLS) for name in ("v3", "v5")},
        stable={"default": "v3"},
        regions={"default": {"v3": 9000, "v5": 1000}},
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_a_rolled_back_canary_under_another_name_is_rolled_back_still(bridge: Bridge, restarted: bool) -> None:
    bridge.see(config())
    bridge.settle()
    step = bridge.steering.command("fraud", "v4", Command("rollback", "odd scores"), "alice")
    assert isinstance(step, Step)
    if restarted:
        kept = Versioned(encode(step.decision.state), 2)
        bridge.steering = Steering(("default",), bridge.clock)
        bridge.steering.recall({("fraud", "v4"): kept}, {})
    bridge.digests["v5"] = "d4"
    assert bridge.weights(renamed()) == {"v3": 10_000, "v5": 0}
    assert bridge.settle() == ["start"]
    assert bridge.weights(renamed()) == {"v3": 10_000, "v5": 0}
    state = bridge.steering.canaries("fraud")["v5"].state
    assert state is not None
    assert (state.rolled_back, state.revision) == (True, 1)
    assert "as v4" in state.reason

    assert isinstance(bridge.steering.command("fraud", "v5", Command("readmit", "mended"), "alice"), Step)


def test_another_canary_under_another_name_is_none_that_was_rolled_back(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.steering.command("fraud", "v4", Command("rollback", "odd scores"), "alice")
    bridge.see(renamed())
    assert bridge.settle() == ["start"]
    assert bridge.weights(renamed()) == {"v3": 9000, "v5": 1000}


def test_a_version_that_becomes_what_was_rolled_back_under_another_name_is_rolled_back(bridge: Bridge) -> None:
    bridge.see(renamed())
    bridge.settle()
    bridge.see(config())
    bridge.settle()
    bridge.steering.command("fraud", "v4", Command("rollback", "odd scores"), "alice")
    bridge.digests["v5"] = "d4"
    bridge.see(renamed())
    assert bridge.settle() == ["start"]
    assert bridge.weights(renamed()) == {"v3": 10_000, "v5": 0}


def test_a_rollouts_canary_is_expected_where_it_has_weight(bridge: Bridge) -> None:
    bridge.see(config(rollout=ROLLOUT))
    assert bridge.steering.expected("fraud", "default") == {"v4"}
    bridge.settle()
    assert bridge.steering.expected("fraud", "default") == {"v4"}
    bridge.steering.command("fraud", "v4", Command("rollback", "odd scores"), "alice")
    assert bridge.steering.expected("fraud", "default") == set()
    bridge.see(config())
    bridge.settle()
    assert bridge.steering.expected("fraud", "default") == set()


def test_of_many_models_good_outcomes_are_summed_up_and_bad_ones_bring_them_along(bridge: Bridge) -> None:
    bridge.see(config())
    bridge.settle()
    bridge.see(config())
    evidence = bridge.steering.canaries("fraud")["v4"].evidence
    assert evidence is not None
    others = [msgspec.structs.replace(STABLE, model=f"m{number}", rivals=()) for number in range(FEW)]
    for number in range(3):
        bridge.steering.observe(OutcomeBatch(0, 1, number + 1, tuple(ArmBatch(arm) for arm in others)))
        bridge.batch(good=5)
        bridge.tick(0.5)
    assert evidence.requests == 0
    bridge.tick(0.5)
    assert evidence.requests == 15
    bridge.batch(good=5)
    bridge.batch(failure(), good=1)
    assert evidence.requests == 21


def test_outcomes_are_summed_up_by_arm_and_by_what_became_of_them() -> None:
    good, late = (200, "ok", True, 2), (499, "abandoned", True, 1)
    parts = [ArmBatch(CANARY, (good, late)), ArmBatch(STABLE, (good,)), ArmBatch(CANARY, (good,))]
    assert merged(parts) == [
        ArmBatch(CANARY, ((200, "ok", True, 4), (499, "abandoned", True, 1))), ArmBatch(STABLE, (good,)),
    ]  # fmt: skip
