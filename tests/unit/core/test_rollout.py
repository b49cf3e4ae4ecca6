"""The transition table, told as transcripts: what happens, and what comes of it."""

from __future__ import annotations

import msgspec
import pytest

from router.core.plan import Plan, Rung
from router.core.rollout import TABLE, TARGET, begin, decide, declared_weight, weight_in_force
from router.core.rollout_state import (
    Command,
    CommandName,
    ConfigChanged,
    Decision,
    Event,
    Phase,
    Refused,
    RolloutState,
    Tick,
    VerdictKind,
    decode,
    encode,
)
from router.core.rollout_words import missing

STEPS = (Rung(100, 60.0), Rung(1000, 60.0), Rung(5000, approval=True), Rung(10_000))
PLAN = Plan("m", "v4", "d1", (("eu",), ("us",)), STEPS, min_requests=100, patience=3600.0)
SHORT = Plan("m", "v4", "d1", (("eu",),), (Rung(1000, 10.0), Rung(10_000, 10.0)), min_requests=5, patience=100.0)
BY_HAND = Plan("m", "v4", "d1", by_hand={"eu": 1000, "us": 0})
NEW = RolloutState("m", "v4", "")


class Canary:
    """One canary under a plan; each event's outcome is what the test expects of it."""

    def __init__(self, plan: Plan = PLAN, *, started: bool = True) -> None:
        self.plan = plan
        self.state = NEW
        self.moves: list[str] = []
        if started:
            self.take(ConfigChanged())

    def take(self, event: Event) -> Decision:
        found = decide(self.state, event, self.plan)
        assert isinstance(found, Decision), found
        assert found.effect == (found.state.revision == self.state.revision + 1)
        self.state = found.state
        self.moves += [found.move] if found.effect else []
        return found

    def tick(
        self, verdict: VerdictKind = "inconclusive", seconds: float = 0.0, requests: int = 0, quiet: bool = True
    ) -> Decision:
        return self.take(Tick(verdict, seconds, requests, quiet, "told so"))

    def command(self, name: CommandName) -> Decision:
        return self.take(Command(name, "because"))

    def refused(self, name: CommandName) -> str:
        found = decide(self.state, Command(name), self.plan)
        assert isinstance(found, Refused)
        assert found.state == self.state
        return found.reason

    @property
    def weights(self) -> tuple[int, int]:
        """In force, in eu and us."""
        return weight_in_force(self.plan, self.state, "eu"), weight_in_force(self.plan, self.state, "us")


def in_phase(phase: Phase) -> Canary:
    """A canary in `phase`, in its first step but where that cannot be."""
    canary = Canary(BY_HAND if phase == "idle" else SHORT)
    if phase == "progressing":
        canary.tick(seconds=10.0)
    elif phase == "inconclusive":
        canary.tick(seconds=100.0)
    elif phase == "paused":
        canary.command("pause")
    elif phase == "rolled_back":
        canary.command("rollback")
    elif phase == "completed":
        canary.command("promote_all")
    elif phase == "awaiting_approval":
        canary = Canary(msgspec.structs.replace(SHORT, steps=(Rung(1000, approval=True), Rung(10_000))))
    assert canary.state.phase == phase
    return canary


def test_a_rollout_goes_its_way_through_all_regions() -> None:
    canary = Canary()
    assert (canary.state.phase, canary.weights) == ("holding", (100, 0))
    canary.tick(seconds=59.0, requests=500)
    assert canary.weights == (100, 0)
    canary.tick(seconds=1.0)
    assert (canary.state.phase, canary.weights) == ("holding", (1000, 0))
    canary.tick("pass", seconds=60.0, requests=100)
    assert (canary.state.phase, canary.weights) == ("awaiting_approval", (1000, 0))
    canary.command("approve")
    assert canary.weights == (5000, 0)
    canary.tick("pass", requests=100)
    assert canary.weights == (10_000, 0)
    canary.tick(requests=100)
    assert canary.weights == (10_000, 100)
    canary.tick("pass", seconds=60.0, requests=100)
    canary.tick("pass", seconds=60.0, requests=100)
    canary.command("approve")
    canary.tick("pass", requests=100)
    assert (canary.state.phase, canary.weights) == ("holding", (10_000, 10_000))
    canary.tick()
    assert (canary.state.phase, canary.weights) == ("completed", (10_000, 10_000))
    assert canary.moves == [
        "start", "advance", "ask", "advance", "advance", "advance", "advance", "ask", "advance", "advance", "complete"
    ]  # fmt: skip
    assert canary.state.revision == len(canary.moves)


def test_a_start_may_be_made_by_hand() -> None:
    found = begin(SHORT, revision=7, reason="new here")
    assert found == msgspec.structs.replace(Canary(SHORT).state, revision=7, reason="new here")
    assert not decide(found, ConfigChanged(), SHORT).state.rolled_back
    assert begin(BY_HAND).phase == "idle"


def test_a_step_above_a_quarter_is_entered_by_proof_only() -> None:
    canary = Canary(SHORT)
    canary.tick(seconds=10.0, requests=5)
    assert canary.state.phase == "progressing"
    canary.tick("error", seconds=10.0)
    assert canary.weights == (1000, 0)
    canary.tick("pass")
    assert canary.weights == (10_000, 0)


@pytest.mark.parametrize(
    ("verdict", "seconds", "requests", "quiet"),
    [
        ("pass", 9.0, 5, True),
        ("pass", 10.0, 4, True),
        ("pass", 10.0, 5, False),
        ("inconclusive", 10.0, 5, True),
        ("error", 10.0, 5, True),
    ],
)
def test_a_step_is_not_left_before_everything_was_shown(
    verdict: VerdictKind, seconds: float, requests: int, quiet: bool
) -> None:
    canary = Canary(SHORT)
    assert not canary.tick(verdict, seconds, requests, quiet).effect
    assert canary.weights == (1000, 0)


def test_a_step_of_a_quarter_needs_no_proof() -> None:
    canary = Canary(msgspec.structs.replace(SHORT, steps=(Rung(1000), Rung(2500), Rung(2501))))
    canary.tick(requests=5)
    assert canary.weights == (2500, 0)
    assert not canary.tick(requests=5).effect


def test_each_step_counts_anew() -> None:
    canary = Canary(msgspec.structs.replace(SHORT, steps=(Rung(1000, 10.0), Rung(1500, 10.0), Rung(2000))))
    canary.tick(seconds=30.0, requests=50)
    assert (canary.weights, canary.state.held, canary.state.requests) == ((1500, 0), 0.0, 0)
    assert not canary.tick(seconds=10.0, requests=4).effect
    assert not canary.tick(seconds=-1.0, requests=-1).effect
    canary.tick(requests=1)
    assert canary.weights == (2000, 0)


def test_without_traffic_nothing_happens_and_it_says_what_is_missing() -> None:
    canary = Canary(SHORT)
    assert missing(canary.state, SHORT) == ("10s of its hold", "5 more requests of v4")
    canary.tick(seconds=99.0)
    assert missing(canary.state, SHORT) == ("5 more requests of v4",)
    assert canary.tick(seconds=1.0).reason == (
        "v4 has not shown enough in 1m 40s of step 1 of 2 in eu, 10%: told so; it lacks 5 more requests of v4"
    )
    assert canary.state.phase == "inconclusive"
    for _ in range(3):
        assert not canary.tick(seconds=1000.0).effect, "it is told once, and time alone promotes nothing"
    assert canary.weights == (1000, 0)
    canary.tick("pass", requests=5)
    assert canary.weights == (10_000, 0)


def test_what_is_missing_is_only_said_where_something_is_awaited() -> None:
    assert missing(in_phase("completed").state, SHORT) == ()
    canary = Canary(SHORT)
    canary.command("promote")
    assert missing(canary.state, SHORT) == ("10s of its hold",)
    canary.tick(seconds=10.0, quiet=False)
    assert missing(canary.state, SHORT) == ()


def test_holds_add_up_over_restarts_and_never_shrink() -> None:
    canary = Canary(SHORT)
    for _ in range(9):
        canary.tick("pass", seconds=1.0, requests=1)
        canary.state = decode(encode(canary.state))
        canary.tick("pass", seconds=-5.0, requests=-5)
    assert (canary.state.held, canary.state.requests) == (9.0, 9)
    canary.tick("pass", seconds=1.0)
    assert canary.weights == (10_000, 0)


def test_a_state_of_another_release_is_read() -> None:
    stored = encode(Canary().state).replace(b'"phase"', b'"new_field":1,"phase"').replace(b'"held":0.0,', b"")
    assert decode(stored) == Canary().state


@pytest.mark.parametrize("phase", [phase for phase in TABLE if phase != "rolled_back"])
@pytest.mark.parametrize("event", [Tick("fail", reason="told so"), Command("rollback", "because")])
def test_every_phase_is_rolled_back_from(phase: Phase, event: Event) -> None:
    canary = in_phase(phase)
    found = canary.take(event)
    assert (found.move, canary.state.phase, canary.weights) == ("rollback", "rolled_back", (0, 0))
    assert "v4 is rolled back from" in found.reason
    assert ("told so" in found.reason) or ("because" in found.reason)


@pytest.mark.parametrize("plan", [SHORT, PLAN, BY_HAND])
def test_a_latch_holds_until_it_is_lifted(plan: Plan) -> None:
    canary = Canary(plan)
    declared = declared_weight(plan, canary.state, "eu")
    canary.tick("fail")
    for verdict in ("pass", "fail", "inconclusive", "error"):
        assert not canary.tick(verdict, 1e9, 10**9).effect
    assert not canary.take(ConfigChanged()).effect
    assert canary.weights == (0, 0)
    assert declared_weight(plan, canary.state, "eu") == declared > 0
    assert canary.command("readmit").forgets_evidence
    assert canary.weights == (declared, 0)


def test_a_readmitted_rollout_begins_anew() -> None:
    canary = Canary(SHORT)
    canary.command("promote_all")
    canary.command("rollback")
    canary.command("readmit")
    assert (canary.state.phase, canary.weights, canary.state.held) == ("holding", (1000, 0), 0.0)


def test_another_plan_starts_anew_and_lifts_the_latch() -> None:
    canary = Canary(SHORT)
    canary.tick("fail")
    canary.plan = msgspec.structs.replace(SHORT, digest="d2")
    assert canary.refused("readmit").endswith("its config has just changed")
    canary.state = msgspec.structs.replace(canary.state, phase="holding")
    assert not canary.tick("fail", 99.0).effect, "a verdict on what it was before"
    assert canary.state.held == 0.0
    found = canary.take(ConfigChanged("merged"))
    assert (found.move, found.forgets_evidence, found.reason) == (
        "start", True, "v4 begins with step 1 of 2 in eu, 10%: merged"
    )  # fmt: skip
    assert canary.weights == (1000, 0)


def test_the_same_plan_keeps_everything() -> None:
    canary = Canary(SHORT)
    canary.tick(seconds=3.0, requests=2)
    before = canary.state
    canary.plan = msgspec.structs.replace(SHORT, model="m")
    assert canary.take(ConfigChanged()) == Decision(before, "stay")


def test_a_pause_stops_everything_but_guards() -> None:
    canary = Canary(SHORT)
    canary.tick(seconds=4.0, requests=5)
    canary.command("pause")
    assert not canary.tick("pass", 1000.0, 1000).effect
    canary.command("resume")
    assert (canary.state.phase, canary.state.held, canary.state.resume_phase) == ("holding", 4.0, "idle")
    canary.tick("pass", 6.0)
    assert canary.weights == (10_000, 0)


@pytest.mark.parametrize("phase", ["holding", "progressing", "inconclusive", "awaiting_approval"])
def test_a_pause_goes_back_to_what_it_interrupted(phase: Phase) -> None:
    canary = in_phase(phase)
    canary.command("pause")
    canary.command("resume")
    assert (canary.state.phase, canary.state.resume_phase) == (phase, "idle")


@pytest.mark.parametrize("phase", ["holding", "progressing", "inconclusive", "paused", "awaiting_approval"])
def test_an_operator_promotes_without_waiting(phase: Phase) -> None:
    one, everything = in_phase(phase), in_phase(phase)
    one.command("promote")
    assert (one.state.phase, one.state.resume_phase) == ("holding", "idle")
    assert one.state.step_index == (0 if phase == "awaiting_approval" else 1)
    everything.command("promote_all")
    assert (everything.state.phase, everything.weights) == ("completed", (10_000, 0))


def test_the_last_promotion_completes() -> None:
    canary = Canary(SHORT)
    canary.command("promote")
    assert canary.command("promote").reason == "v4 has completed its rollout, at 100%: because"
    assert canary.state.phase == "completed"


@pytest.mark.parametrize(
    ("phase", "name", "why"),
    [
        ("idle", "promote", "its weights are set by hand, in the config"),
        ("idle", "pause", "its weights are set by hand, in the config"),
        ("idle", "readmit", "its weights are set by hand, in the config"),
        ("holding", "approve", "nothing waits for approval"),
        ("holding", "resume", "it is not paused"),
        ("progressing", "readmit", "it is not rolled back"),
        ("awaiting_approval", "resume", "the next step waits for `approve`"),
        ("paused", "pause", "it is paused; `resume` goes on, `promote` enters the next step"),
        ("paused", "approve", "it is paused; `resume` goes on, `promote` enters the next step"),
        ("rolled_back", "rollback", "it is rolled back; `readmit` lifts that"),
        ("rolled_back", "promote", "it is rolled back; `readmit` lifts that"),
        ("completed", "promote", "its rollout is completed"),
        ("completed", "pause", "its rollout is completed"),
    ],
)
def test_what_does_not_apply_is_refused_with_the_reason(phase: Phase, name: CommandName, why: str) -> None:
    assert in_phase(phase).refused(name) == f"`{name}` does not apply to v4: {why}"


def test_of_two_commands_for_the_same_state_one_wins() -> None:
    canary = Canary()
    seen = canary.state.revision
    canary.take(Command("promote", "alice", seen))
    lost = decide(canary.state, Command("promote", "bob", seen), PLAN)
    assert lost == Refused(
        canary.state,
        "`promote` does not apply to v4: something came first: v4 enters step 2 of 4 in eu, 10%: alice",
    )


def test_a_rollout_may_begin_with_an_approval() -> None:
    canary = in_phase("awaiting_approval")
    assert canary.weights == (0, 0)
    assert canary.state.reason == "v4 begins with no weight, before its first step"
    assert not canary.tick("pass", 1000.0, 1000).effect
    assert canary.command("approve").reason == "v4 enters step 1 of 2 in eu, 10%: because"


def test_an_approval_may_be_for_the_first_stage_that_is_served() -> None:
    canary = Canary(msgspec.structs.replace(PLAN, stages=((), ("us",)), steps=(Rung(1000, approval=True),)))
    assert (canary.state.position, canary.weights) == ((1, -1), (0, 0))
    canary.command("approve")
    assert canary.weights == (0, 1000)


def test_a_rollout_that_goes_nowhere_here_does_nothing() -> None:
    canary = Canary(msgspec.structs.replace(SHORT, stages=((), ())))
    assert (canary.state.phase, canary.weights) == ("idle", (0, 0))
    assert not canary.tick("pass", 1e9, 10**9).effect


def test_a_stage_that_is_not_served_any_more_is_left_for_the_next() -> None:
    canary = Canary()
    canary.plan = msgspec.structs.replace(PLAN, stages=((), ("us",)))
    assert missing(canary.state, canary.plan) == ()
    canary.tick()
    assert canary.weights == (0, 100)
    canary.plan = msgspec.structs.replace(PLAN, stages=((), ()))
    canary.tick()
    assert (canary.state.phase, canary.weights) == ("completed", (0, 0))


def test_an_approval_may_outlive_its_regions() -> None:
    canary = in_phase("awaiting_approval")
    canary.plan = msgspec.structs.replace(canary.plan, stages=((),))
    canary.command("approve")
    canary.tick()
    assert canary.state.phase == "completed"


def test_reasons_name_the_command_or_the_figures_where_nobody_gave_one() -> None:
    canary = Canary(SHORT)
    assert canary.take(Command("pause")).reason == "v4 pauses in step 1 of 2 in eu, 10%: `pause`"
    assert canary.take(Command("resume")).reason == "v4 goes on in step 1 of 2 in eu, 10%: `resume`"
    found = canary.take(Tick("pass", 10.0, 7))
    assert found.reason == "v4 enters step 2 of 2 in eu, 100%: 10s held, 7 requests of v4, verdict pass"


def test_the_table_knows_every_phase_and_every_move() -> None:
    assert {move for row in TABLE.values() for move in row.values()} == set(TARGET)
    assert {target for target in TARGET.values() if target} | {"idle"} == set(TABLE)
