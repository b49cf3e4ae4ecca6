"""Verdicts, and what they say."""

from __future__ import annotations

import pytest

from router.core.analysis import Verdict, assess, span
from router.core.guards import CanaryEvidence, GuardLimits, Subject
from router.core.outcome import FAILURE, REJECTION, SLOW, Arm, ArmBatch, BadEvent

CANARY = Arm("fraud", "default", "v4", "new", 1000, 9000, True)
ALONE = Arm("fraud", "default", "v4", "new", 10_000, 0, True)
STABLE = Arm("fraud", "default", "v3", "old", 9000, 0, False, (("v4", "new", 1000),))


def gathered(tolerance: float = 0.005) -> CanaryEvidence:
    return CanaryEvidence(GuardLimits(), False, Subject("fraud", "v4", "new"), tolerance=tolerance)


def feed(evidence: CanaryEvidence, ours: int, stables: int, now: float = 1000.0, *events: BadEvent) -> None:
    arms = [ArmBatch(CANARY, ((200, "ok", True, ours),)), ArmBatch(STABLE, ((200, "ok", True, stables),))]
    evidence.observe(arms, events, now)


def bad(arm: Arm, kind: int) -> BadEvent:
    return BadEvent(arm, kind, 0, 0.1)


def test_no_traffic_is_not_enough_yet() -> None:
    verdict = assess(gathered(), now=1000.0)

    assert (verdict.kind, verdict.guard, verdict.quiet) == ("inconclusive", "", True)
    assert verdict.reason == "not enough yet: no requests of the canary so far"
    assert verdict.missing == "requests of the canary"


def test_what_is_missing_is_told_with_how_long_it_will_take() -> None:
    evidence = gathered()
    feed(evidence, 360, 3240)
    verdict = assess(evidence, now=1000.0, min_requests=500, hold_left=100.0)

    assert verdict.kind == "inconclusive"
    assert verdict.missing == (
        "about 140 more requests of the canary (24 seconds), and 2 minutes of its hold, and about 6 500 more requests"
        " (2 minutes)"
    )
    assert verdict.reason == f"not enough yet: {verdict.missing}"


def test_where_no_requests_come_no_time_is_promised() -> None:
    evidence = gathered()
    feed(evidence, 499, 4491)

    assert "about 1 more requests of the canary (no requests come at present)" in (
        assess(evidence, now=5000.0, min_requests=500).missing
    )


def test_rates_at_which_it_will_never_be_enough_are_told() -> None:
    evidence = gathered(tolerance=0.001)
    feed(evidence, 1000, 9000, 1000.0, *[bad(CANARY, FAILURE)] * 2)

    assert "fewer failures of the canary" in assess(evidence, now=1000.0).missing


def test_enough_clean_requests_pass() -> None:
    evidence = gathered()
    feed(evidence, 1000, 9000)
    verdict = assess(evidence, now=1000.0, min_requests=500)

    assert (verdict.kind, verdict.missing, verdict.quiet) == ("pass", "", True)
    assert verdict.reason.startswith(
        "promotion: no worse than stable by what is tolerated; failed were 0 of 1000 requests of the canary and 0 of"
        " 9000 of stable since its start: evidence"
    )


def test_a_guard_that_is_not_quiet_stands_in_the_way() -> None:
    evidence = gathered()
    feed(evidence, 10_000, 90_000)
    feed(evidence, 0, 0, 1001.0, *[bad(CANARY, REJECTION)] * 3)
    verdict = assess(evidence, now=1001.0)

    assert (verdict.kind, verdict.quiet) == ("inconclusive", False)
    assert "a quieter rejections guard (evidence 119)" in verdict.missing


@pytest.mark.parametrize(
    ("kind", "guard", "words"),
    [
        (FAILURE, "errors", "errors: of late 100 % of the canary's requests failed and 0 % of stable's; failures in"),
        (REJECTION, "rejections", "rejections: of late 100 % of the canary's requests were rejected and 0 %"),
        (SLOW, "latency", "latency: of late 100 % of the canary's requests were slow and 0 % of stable's; slow requ"),
    ],
)
def test_a_guard_that_fired_is_a_failure_with_its_numbers(kind: int, guard: str, words: str) -> None:
    evidence = gathered()
    feed(evidence, 8, 72, 1000.0, *[bad(CANARY, kind)] * 8)
    verdict = assess(evidence, now=1000.0)

    assert (verdict.kind, verdict.guard, verdict.missing, verdict.quiet) == ("fail", guard, "", False)
    assert verdict.reason.startswith(words)
    assert "8 of 8 requests of the canary and 0 of 72 of stable since its start: evidence" in verdict.reason


def test_the_absolute_guard_says_what_was_allowed() -> None:
    evidence = gathered()
    evidence.observe([ArmBatch(ALONE, ((500, "failure", True, 10),))], [bad(ALONE, FAILURE)] * 10, 1000.0)

    assert assess(evidence, now=1000.0).reason.startswith(
        "absolute: 10 of 10 requests of the canary failed (100 %), by now more than error_rate.max allows: evidence"
    )


def test_a_wrong_split_is_an_error() -> None:
    evidence = gathered()
    feed(evidence, 1, 9)
    feed(evidence, 5000, 5000, 1061.0)
    verdict = assess(evidence, now=1061.0)

    assert (verdict.kind, verdict.guard) == ("error", "sample_ratio")
    assert "the canary got 5000 of 10000 requests (50 %), which is not what the weights say" in verdict.reason


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 second"), (40.2, "41 seconds"), (90.0, "90 seconds"), (91.0, "2 minutes"), (600.0, "10 minutes"),
        (7100.0, "119 minutes"), (7200.0, "2 hours"), (90_000.0, "25 hours"), (172_800.0, "2 days"),
    ],
)  # fmt: skip
def test_spans_are_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_verdict_keeps_its_readings() -> None:
    verdict: Verdict = assess(gathered(), now=1.0)

    assert [reading.guard for reading in verdict.readings] == [
        "errors", "rejections", "latency", "absolute", "sample_ratio", "promotion",
    ]  # fmt: skip
