"""Evidence to a verdict, with the numbers behind it in one sentence.

Rules:
1. A guard that fired is a failure, whatever else is so.
2. A split that is not the one declared is an error: nothing that was compared means what it says.
3. It passes when there is evidence for promotion, every guard is quiet, and what was asked for beside that has come.
4. Everything else is inconclusive: no data is neither success nor failure, it is "not enough yet", and what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf
from typing import Literal

import msgspec

from router.core.comparison import GuardReading
from router.core.guards import CanaryEvidence

Kind = Literal["pass", "fail", "inconclusive", "error"]

QUIET = 20.0
"""A guard with evidence of this much, for something that matters, stands in the way of promotion."""

_WHAT = {
    "errors": ("failed", "failures"),
    "rejections": ("were rejected", "rejections"),
    "latency": ("were slow", "slow requests"),
}


class Verdict(msgspec.Struct, frozen=True):
    """What the evidence says.

    `guard` is what decided: the guard that fired, `sample_ratio`, or "". `reason` is one sentence; `missing` says what
    is not there yet, "" where nothing is. `quiet`: no guard is close to firing.
    """

    kind: Kind
    guard: str
    reason: str
    missing: str
    readings: tuple[GuardReading, ...]
    quiet: bool


def assess(evidence: CanaryEvidence, *, now: float, min_requests: int = 0, hold_left: float = 0.0) -> Verdict:
    """The verdict on one canary.

    Args:
        evidence: what was gathered.
        now: monotonic seconds, as given to `CanaryEvidence.observe`.
        min_requests: so many requests of the canary are asked for before it passes.
        hold_left: so many seconds are asked for before it passes.
    """
    readings = evidence.readings()
    by_name = {reading.guard: reading for reading in readings}
    guards = [reading for reading in readings if reading.guard not in {"sample_ratio", "promotion"}]
    loud = [reading for reading in guards if reading.e >= QUIET and reading.matters]
    for reading in guards:
        if reading.fired:
            return Verdict("fail", reading.guard, sentence(reading), "", readings, quiet=False)
    if by_name["sample_ratio"].fired:
        return Verdict("error", "sample_ratio", sentence(by_name["sample_ratio"]), "", readings, not loud)
    if evidence.requests == 0:
        missing = _joined([*_asked(evidence, min_requests, hold_left, now), "requests of the canary"])
        return Verdict("inconclusive", "", "not enough yet: no requests of the canary so far", missing, readings, True)
    missing = _missing(evidence, by_name["promotion"], loud, min_requests, hold_left, now)
    if missing:
        return Verdict("inconclusive", "", f"not enough yet: {missing}", missing, readings, not loud)
    return Verdict("pass", "", sentence(by_name["promotion"]), "", readings, quiet=True)


def sentence(reading: GuardReading) -> str:
    """Where `reading` stands, in one sentence with its numbers."""
    evidence = f"evidence {_number(reading.e)}, needed {_number(reading.threshold)}"
    ours, stables = _percent(reading.observed_canary), _percent(reading.observed_stable)
    # Bad requests are told at once, all requests ten times a second.
    n_canary, n_stable = max(reading.n_canary, reading.bad_canary), max(reading.n_stable, reading.bad_stable)
    totals = (
        f"{reading.bad_canary} of {n_canary} requests of the canary and {reading.bad_stable} of "
        f"{n_stable} of stable since its start"
    )
    match reading.guard:
        case "absolute":
            return (
                f"absolute: {reading.bad_canary} of {n_canary} requests of the canary failed ({ours}), by now "
                f"more than error_rate.max allows: {evidence}"
            )
        case "sample_ratio":
            return (
                f"sample_ratio: the canary got {reading.n_canary} of {reading.n_canary + reading.n_stable} requests "
                f"({ours}), which is not what the weights say: {evidence}"
            )
        case "promotion":
            return f"promotion: no worse than stable by what is tolerated; failed were {totals}: {evidence}"
        case guard:
            were, plural = _WHAT[guard]
            lately = f"of late {ours} of the canary's requests {were} and {stables} of stable's"
            return f"{guard}: {lately}; {plural} in all: {totals}: {evidence}"


def _missing(
    evidence: CanaryEvidence,
    promotion: GuardReading,
    loud: Sequence[GuardReading],
    min_requests: int,
    hold_left: float,
    now: float,
) -> str:
    missing = _asked(evidence, min_requests, hold_left, now)
    if promotion.e < promotion.threshold:
        needed = evidence.missing_for_promotion()
        missing.append(_requests(needed, sum(evidence.pace(now)), "requests"))
    missing.extend(f"a quieter {reading.guard} guard (evidence {_number(reading.e)})" for reading in loud)
    return _joined(missing)


def _asked(evidence: CanaryEvidence, min_requests: int, hold_left: float, now: float) -> list[str]:
    asked = []
    if evidence.requests < min_requests:
        needed = min_requests - evidence.requests
        asked.append(_requests(needed, evidence.pace(now)[0], "requests of the canary"))
    if hold_left > 0.0:
        asked.append(f"{span(hold_left)} of its hold")
    return asked


def _requests(needed: float, pace: float, what: str) -> str:
    if needed == inf:
        return "fewer failures of the canary: at these rates no number of requests would be enough"
    when = span(needed / pace) if pace > 0.0 else "no requests come at present"
    return f"about {_rounded(needed)} more {what} ({when})"


def _joined(parts: Sequence[str]) -> str:
    return ", and ".join(parts)


def span(seconds: float) -> str:
    """`seconds` in words, rounded up: `40 seconds`, `3 minutes`, `5 hours`, `2 days`."""
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (word == "minute" and seconds > 90):
            return _plural(ceil(seconds / size), word)
    return _plural(max(1, ceil(seconds)), "second")


def _plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _rounded(n: float) -> str:
    """`n` to two figures, upwards: more would pretend to know."""
    size = 10 ** max(0, len(str(int(n))) - 2)
    return f"{ceil(n / size) * size:,}".replace(",", " ")


def _number(value: float) -> str:
    if value >= 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}".replace(",", " ") if value >= 100.0 else f"{value:.3g}"


def _percent(rate: float) -> str:
    return f"{100.0 * rate:.3g} %"
