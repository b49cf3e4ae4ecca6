"""What holds of every rollout, whatever happens to it and in whichever order."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core.plan import PROOF_ABOVE, Plan, Rung
from router.core.rollout import decide, declared_weight, weight_in_force
from router.core.rollout_state import (
    Command,
    CommandName,
    ConfigChanged,
    Decision,
    Event,
    Refused,
    RolloutState,
    Tick,
    VerdictKind,
    decode,
    encode,
)
from router.core.rollout_words import missing

REGIONS = ("eu", "us", "asia")
PROMOTING = {"promote", "promote_all", "approve", "readmit"}

rungs = st.builds(Rung, st.integers(1, 10_000), st.sampled_from([0.0, 5.0, 60.0]), st.booleans())
stages = st.sampled_from([(REGIONS,), (("eu",), ("us",)), ((), ("us", "asia")), (("us",), (), ("eu",)), ((), ())])
automatic = st.builds(
    Plan,
    st.just("m"),
    st.just("v4"),
    st.sampled_from(["d1", "d2"]),
    stages,
    st.lists(rungs, min_size=1, max_size=4, unique_by=lambda rung: rung.weight).map(
        lambda steps: tuple(sorted(steps, key=lambda rung: rung.weight))
    ),
    min_requests=st.sampled_from([0, 10]),
    patience=st.sampled_from([30.0, 100.0]),
)
by_hand = st.builds(Plan, st.just("m"), st.just("v4"), st.sampled_from(["d3", "d4"]), by_hand=st.just({"eu": 1000}))
plans = automatic | by_hand
ticks = st.builds(
    Tick,
    st.sampled_from(get_args(VerdictKind)),
    st.sampled_from([-1.0, 0.0, 1.0, 10.0, 100.0]),
    st.sampled_from([0, 1, 10]),
    st.booleans(),
)


class Rollouts(RuleBasedStateMachine):
    """One canary, to which anything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: dict[str, Plan] = {}
        self.state = RolloutState("m", "v4", "")
        self.plan = Plan("m", "v4", "none")

    @initialize(plan=plans)
    def start(self, plan: Plan) -> None:
        self.merge(plan)

    @rule(plan=plans)
    def merge(self, plan: Plan) -> None:
        """Another config; a digest stands for one plan only."""
        self.plan = self.plans.setdefault(plan.digest, plan)
        lifted = self.state.digest != self.plan.digest
        found = self.take(ConfigChanged())
        assert isinstance(found, Decision)
        assert found.effect == lifted == found.forgets_evidence

    @rule()
    def merge_something_else(self) -> None:
        """The same rollout, in a config edited elsewhere."""
        assert self.take(ConfigChanged()) == Decision(self.state, "stay")

    @rule(tick=ticks)
    def passes(self, tick: Tick) -> None:
        before = self.state
        found = self.take(tick)
        assert isinstance(found, Decision)
        if tick.verdict == "fail":
            assert self.state.rolled_back
        if tick.verdict == "error" or not tick.quiet:
            assert found.move in {"stay", "gather", "report", "rollback"}
        if found.move == "advance" and before.step_index >= 0:
            assert self.state.position == self.plan.after(before.position)
            assert before.held + max(0.0, tick.seconds) >= self.plan.rung(before.position).hold
            assert tick.verdict == "pass" or self.plan.rung(self.state.position).weight <= PROOF_ABOVE
            assert not self.plan.rung(self.state.position).approval

    @rule(name=st.sampled_from(get_args(CommandName)))
    def somebody_commands(self, name: CommandName) -> None:
        """A command has one effect or none; the one who gave it for the same state comes too late."""
        before = self.state
        found = self.take(Command(name, expect=before.revision))
        assert isinstance(found, Refused) or found.effect
        if isinstance(found, Decision):
            assert isinstance(decide(self.state, Command(name, expect=before.revision), self.plan), Refused)

    @rule()
    def restart(self) -> None:
        self.state = decode(encode(self.state))

    @rule()
    def crash(self) -> None:
        """What only counts is lost; what was decided is not."""
        if self.state.held:
            self.state = decode(encode(self.state).replace(b'"held":%s' % str(self.state.held).encode(), b'"held":0.0'))

    def take(self, event: Event) -> Decision | Refused:
        before, after = self.state, decide(self.state, event, self.plan)
        assert decide(before, event, self.plan) == after
        if isinstance(after, Refused):
            assert after.state == before
            return after
        self.state = after.state
        assert after.effect == (after.state.revision == before.revision + 1)
        assert after.effect == bool(after.reason)
        self._weights_rise_for_a_reason(before, event, after)
        self._a_latch_is_only_lifted_on_purpose(before, event)
        return after

    def _weights_rise_for_a_reason(self, before: RolloutState, event: Event, after: Decision) -> None:
        if before.digest != self.plan.digest:
            return
        was = {region: weight_in_force(self.plan, before, region) for region in REGIONS}
        rises = any(weight_in_force(self.plan, after.state, region) > was[region] for region in REGIONS)
        if rises and isinstance(event, Tick):
            assert after.move == "advance"
            assert event.quiet
            assert event.verdict in {"pass", "inconclusive"}
        elif rises:
            assert isinstance(event, Command)
            assert event.name in PROMOTING

    def _a_latch_is_only_lifted_on_purpose(self, before: RolloutState, event: Event) -> None:
        if before.rolled_back and not self.state.rolled_back:
            lifted = isinstance(event, Command) and event.name == "readmit"
            assert lifted or before.digest != self.plan.digest

    @invariant()
    def a_latch_takes_all_weight(self) -> None:
        for region in REGIONS:
            weight = weight_in_force(self.plan, self.state, region)
            assert 0 <= weight <= declared_weight(self.plan, self.state, region) <= 10_000
            assert not (self.state.rolled_back and weight)

    @invariant()
    def it_can_be_told(self) -> None:
        assert all(missing(self.state, self.plan))
        assert self.state.held >= 0
        assert self.state.requests >= 0


TestRollouts = Rollouts.TestCase
