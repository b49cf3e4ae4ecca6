"""What is gathered about a canary, and when a guard has had enough."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.evidence import SpentKeys
from router.core.guards import CanaryEvidence, EvidenceState, GuardLimits, GuardReading, Subject
from router.core.outcome import FAILURE, REJECTION, SLOW, Arm, ArmBatch, BadEvent

SUBJECT = Subject("fraud", "v4", "new")


def canary(weight: int = 1000, region: str = "default", version: str = "v4", digest: str = "new") -> Arm:
    return Arm("fraud", region, version, digest, weight, 10_000 - weight, True)


def stable(weight: int = 1000, region: str = "default") -> Arm:
    return Arm("fraud", region, "v3", "old", 10_000 - weight, 0, False, (("v5", "x", 100), ("v4", "new", weight)))


def counted(arm: Arm, n: int, result: str = "ok", *, observed: bool = True) -> ArmBatch:
    return ArmBatch(arm, ((200, result, observed, n),))


def gathered(*, sticky: bool = False, limits: GuardLimits | None = None) -> CanaryEvidence:
    return CanaryEvidence(limits or GuardLimits(), sticky, SUBJECT)


def requests(evidence: CanaryEvidence, ours: int, stables: int, now: float = 1000.0, weight: int = 1000) -> None:
    evidence.observe([counted(canary(weight), ours), counted(stable(weight), stables)], [], now)


def bad(arm: Arm, kind: int = FAILURE | SLOW, key: int = 0) -> BadEvent:
    return BadEvent(arm, kind, key, 0.1)


def reading(evidence: CanaryEvidence, guard: str) -> GuardReading:
    return next(one for one in evidence.readings() if one.guard == guard)


def fired(evidence: CanaryEvidence) -> list[str]:
    return [one.guard for one in evidence.readings() if one.fired]


def until_fired(evidence: CanaryEvidence, event: BadEvent, *, at_most: int = 100) -> int:
    for number in range(1, at_most):
        evidence.observe([counted(event.arm, 1)], [event], 1000.0 + number / 10)
        if evidence.fired:
            return number
    raise AssertionError("no guard fired")


def test_a_dead_canary_at_a_tenth_is_known_at_its_fifth_failure() -> None:
    evidence = gathered()

    assert until_fired(evidence, bad(canary())) == 5
    assert "errors" in fired(evidence)


def test_a_hanging_canary_is_known_before_any_of_its_requests_has_ended() -> None:
    evidence = gathered()
    for _ in range(6):
        evidence.observe([counted(stable(), 9)], [bad(canary(), SLOW)], 1000.0)

    assert fired(evidence) == ["latency"]
    assert reading(evidence, "latency").observed_canary == 1.0


def test_rejections_of_the_canary_alone_are_known_by_the_twelfth() -> None:
    evidence = gathered()
    requests(evidence, 0, 50)
    evidence.observe([], [bad(stable(), REJECTION)], 1000.0)

    assert until_fired(evidence, bad(canary(), REJECTION)) <= 12
    assert fired(evidence) == ["rejections"]


def test_mistakes_that_clients_make_with_both_versions_cancel() -> None:
    evidence = gathered()
    for _ in range(50):
        mistakes = [bad(canary(), REJECTION), *[bad(stable(), REJECTION)] * 9]
        evidence.observe([counted(canary(), 1), counted(stable(), 9)], mistakes, 1000.0)

    assert fired(evidence) == []
    assert reading(evidence, "rejections").bad_stable == 450


def test_an_increase_too_small_to_matter_rolls_nothing_back_however_clear_it_is() -> None:
    evidence = gathered()
    for number in range(40):
        evidence.observe(
            [counted(canary(), 2000), counted(stable(), 18_000)], [bad(canary(), FAILURE)], 1000.0 + number
        )

    errors = reading(evidence, "errors")
    assert errors.e > errors.threshold
    assert not errors.matters
    assert fired(evidence) == []


def test_a_canary_that_turns_bad_after_a_good_week_is_not_excused_by_that_week() -> None:
    evidence = gathered()
    requests(evidence, 1_000_000, 9_000_000)

    assert until_fired(evidence, bad(canary(), FAILURE)) == 5


def test_a_guard_that_fired_stays_fired() -> None:
    evidence = gathered()
    until_fired(evidence, bad(canary()))
    evidence.observe([], [bad(stable())] * 500, 1001.0)

    assert reading(evidence, "errors").e < 1.0
    assert "errors" in fired(evidence)


def test_where_no_stable_runs_beside_it_only_the_absolute_guard_judges() -> None:
    evidence = gathered()
    alone = canary(10_000)
    evidence.observe([counted(alone, 100_000)], [], 1000.0)

    assert until_fired(evidence, bad(alone)) <= 12
    assert fired(evidence) == ["absolute"]
    assert reading(evidence, "errors").bad_canary == 0


def test_failures_below_the_limit_are_not_the_absolute_guards_business() -> None:
    evidence = gathered()
    alone = canary(10_000)
    for number in range(300):
        evidence.observe([counted(alone, 10)], [bad(alone)], 1000.0 + number)

    assert fired(evidence) == []


def test_a_low_limit_needs_few_failures() -> None:
    evidence = gathered(limits=GuardLimits(error_rate_max=0.01))

    assert until_fired(evidence, bad(canary(10_000))) == 3


def test_an_outage_of_both_is_not_the_canarys() -> None:
    evidence = gathered()
    requests(evidence, 5000, 45_000)
    for number in range(200):
        arms = [counted(canary(), 1), counted(stable(), 9)]
        evidence.observe(arms, [*[bad(stable())] * 9, bad(canary())], 1100.0 + number / 2)

    assert fired(evidence) == []
    assert reading(evidence, "absolute").note == "held while stable is failing too"
    requests(evidence, 10, 10_000, 1300.0)
    assert reading(evidence, "absolute").note == ""


def test_the_first_failures_of_an_outage_of_both_are_not_the_canarys_either() -> None:
    evidence = gathered()
    requests(evidence, 0, 5000, weight=5000)
    evidence.observe([counted(canary(5000), 20)], [bad(canary(5000), FAILURE)] * 20, 1000.0)
    assert reading(evidence, "absolute").e > 1e6
    assert "absolute" not in fired(evidence)

    evidence.observe([counted(canary(5000), 1), counted(stable(5000), 10)], [bad(canary(5000), FAILURE)], 1001.0)
    assert "absolute" in fired(evidence)


def test_an_outage_of_one_region_does_not_blind_the_guard_in_another() -> None:
    evidence = gathered()
    evidence.observe([counted(stable(region="eu"), 100)], [bad(stable(region="eu"))] * 100, 1000.0)
    here = canary(10_000, region="us")

    assert until_fired(evidence, bad(here)) <= 12


def test_each_sticky_key_brings_one_event_whichever_version_it_was_on() -> None:
    evidence = gathered(sticky=True)
    evidence.observe([], [bad(stable(), FAILURE, 7)], 1000.0)
    evidence.observe([counted(canary(), 400)], [bad(canary(), FAILURE, 7)] * 50, 1000.0)

    errors = reading(evidence, "errors")
    assert errors.e < 1.0
    assert errors.bad_canary == 50
    assert errors.note == "1 sticky keys spent"


def test_one_busy_user_who_always_fails_does_not_roll_back() -> None:
    evidence = gathered(sticky=True)
    evidence.observe([counted(canary(), 100)], [bad(canary(), FAILURE, 7)] * 90, 1000.0)
    requests(evidence, 10, 90)
    assert reading(evidence, "absolute").e > 1e6
    assert fired(evidence) == []

    evidence.observe([counted(canary(), 8)], [bad(canary(), FAILURE, key) for key in range(1, 9)], 1000.0)
    assert "absolute" in fired(evidence)


def test_where_it_runs_alone_the_absolute_guard_counts_one_users_failures_too() -> None:
    evidence = gathered(sticky=True)
    alone = canary(10_000)

    assert until_fired(evidence, bad(alone, FAILURE, 7)) <= 12


def test_a_full_memory_of_keys_is_told() -> None:
    evidence = gathered(sticky=True)
    keys = range(1, SpentKeys.LIMIT + 1)
    evidence.observe([], [bad(stable(), FAILURE, key) for key in keys], 1000.0)
    before = reading(evidence, "errors")
    evidence.observe([counted(canary(), 5)], [bad(canary(), FAILURE, 10**6)], 1000.0)

    assert reading(evidence, "errors").e == before.e
    assert "full" in before.note


def test_what_concerns_others_is_left_out() -> None:
    evidence = gathered()
    other_model = Arm("churn", "default", "v4", "new", 1000, 9000, True)
    lonely = Arm("fraud", "default", "v3", "old", 10_000, 0, False)
    for arm in (other_model, lonely, canary(version="v5"), canary(digest="older"), canary(0)):
        evidence.observe([counted(arm, 5)], [bad(arm)] * 5, 1000.0)
    evidence.observe([counted(canary(), 5, observed=False), counted(canary(), 5, "abandoned")], [], 1000.0)

    assert reading(evidence, "errors").bad_canary == 0
    assert evidence.readings()[0].n_canary == 0


def test_a_wrong_split_is_an_alarm_and_no_rollback() -> None:
    evidence = gathered()
    requests(evidence, 1, 9)
    requests(evidence, 5000, 5000, 1061.0)

    assert fired(evidence) == ["sample_ratio"]
    assert not evidence.fired


def test_with_sticky_keys_the_split_is_not_measured() -> None:
    evidence = gathered(sticky=True)
    requests(evidence, 1, 9)
    requests(evidence, 5000, 5000, 1061.0)

    assert fired(evidence) == []
    assert "not measured" in reading(evidence, "sample_ratio").note


def test_clean_requests_are_evidence_for_promotion_and_what_is_missing_is_told() -> None:
    evidence = gathered()
    requests(evidence, 500, 4500)
    missing = evidence.missing_for_promotion()
    assert reading(evidence, "promotion").n_canary == 500
    requests(evidence, round(missing * 0.1) + 1, round(missing * 0.9) + 1)

    assert reading(evidence, "promotion").e >= 20.0
    assert evidence.missing_for_promotion() == 0.0
    assert not evidence.fired


def test_one_stable_user_who_always_fails_speaks_once_for_promotion() -> None:
    evidence = gathered(sticky=True)
    requests(evidence, 100, 900)
    evidence.observe([], [bad(stable(), FAILURE, 7)], 1000.0)
    once = reading(evidence, "promotion").e
    evidence.observe([], [bad(stable(), FAILURE, 7)] * 100, 1000.0)

    assert reading(evidence, "promotion").e == once


def test_pace_and_share_are_those_of_the_last_minute_and_of_all() -> None:
    evidence = gathered()
    requests(evidence, 60, 540)

    assert evidence.pace(1001.0) == (1.0, 9.0)
    assert evidence.pace(2000.0) == (0.0, 0.0)
    assert evidence.pi == 0.1


KINDS = st.sampled_from([FAILURE, REJECTION, SLOW, FAILURE | SLOW])
BATCHES = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.lists(st.tuples(st.booleans(), KINDS, st.integers(0, 4), st.sampled_from([100, 1000, 5000])), max_size=6),
    ),
    max_size=12,
)


@given(batches=BATCHES, cut=st.integers(0, 12))
def test_a_restart_is_no_restart(batches: list[tuple[int, list[tuple[bool, int, int, int]]]], cut: int) -> None:
    whole, resumed = gathered(sticky=True), gathered(sticky=True)
    for index, (n, told) in enumerate(batches):
        if index == cut:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(resumed.state()), type=EvidenceState)
            resumed = gathered(sticky=True)
            resumed.restore(state)
        events = [bad(canary(weight) if ours else stable(weight), kind, key) for ours, kind, key, weight in told]
        # Stable's last minute is not kept; here it has nothing to say.
        events = [event for event in events if event.arm.canary or not event.kind & FAILURE]
        arms = [counted(canary(), n), counted(stable(), 9 * n)]
        for evidence in (whole, resumed):
            evidence.observe(arms, events, 1000.0 + index)

    for one, other in zip(whole.readings(), resumed.readings(), strict=True):
        assert one.e == pytest.approx(other.e, rel=1e-9)
        assert (one.fired, one.bad_canary, one.n_stable, one.note) == (
            other.fired, other.bad_canary, other.n_stable, other.note,
        )  # fmt: skip


@given(counts=st.lists(st.integers(0, 100), max_size=8))
def test_batches_without_bad_events_may_come_in_any_order(counts: list[int]) -> None:
    forth, back = gathered(), gathered()
    for n in counts:
        requests(forth, n, 9 * n)
    for n in reversed(counts):
        requests(back, n, 9 * n)

    for one, other in zip(forth.readings(), back.readings(), strict=True):
        assert one.e == pytest.approx(other.e, rel=1e-9)


def test_evidence_of_another_canary_is_refused_and_of_other_limits_begins_anew() -> None:
    evidence = gathered()
    requests(evidence, 100, 900)
    until_fired(evidence, bad(canary()))
    with pytest.raises(ValueError, match="says nothing"):
        CanaryEvidence(GuardLimits(), False, Subject("fraud", "v4", "newer")).restore(evidence.state())
    stricter = gathered(limits=GuardLimits(error_rate_max=0.1))
    stricter.restore(evidence.state())
    lenient = CanaryEvidence(GuardLimits(), False, SUBJECT, tolerance=0.01)
    lenient.restore(evidence.state())

    assert stricter.requests == 105
    assert not stricter.fired
    assert lenient.fired
    assert reading(lenient, "promotion").e == pytest.approx(1.0)


def test_failures_that_await_their_requests_outlive_a_restart() -> None:
    before, after = gathered(), gathered()
    alone = canary(10_000)
    before.observe([], [bad(alone)] * 3, 1000.0)
    after.restore(before.state())
    for evidence in (before, after):
        evidence.observe([counted(alone, 3)], [], 1000.1)

    assert before.state().uncounted == after.state().uncounted
    assert [guard.e for guard in after.readings()] == pytest.approx([guard.e for guard in before.readings()])


def test_a_failure_that_is_told_before_its_request_is_counted_is_no_success_later() -> None:
    early, late = gathered(), gathered()
    alone = canary(10_000)
    early.observe([], [bad(alone)], 1000.0)
    early.observe([counted(alone, 1)], [], 1000.1)
    late.observe([counted(alone, 1)], [bad(alone)], 1000.0)

    assert reading(early, "absolute").e == reading(late, "absolute").e
