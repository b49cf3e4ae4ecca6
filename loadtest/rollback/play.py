"""One run of a case: its traffic, put before the engine as workers' batches would be.

Rules:
1. What judges is `CanaryEvidence`, as control runs it; nothing is judged here.
2. It ends with the first guard that fires.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtest.rollback.scenario import Case, Phase
from loadtest.rollback.traffic import Drawn, draw, draw_sticky
from router.core.guards import CanaryEvidence, GuardLimits, Subject
from router.core.outcome import FAILURE, Arm, ArmBatch, BadEvent

SUBJECT = Subject("model", "v4", "canary")


@dataclass(frozen=True)
class Ended:
    """How a run ended: which guard fired, "" where none did, and after how much of the last phase.

    `early`: it fired before the last phase. `seconds` and `requests` (the canary's) count from the start of the phase
    it fired in.
    """

    guard: str
    early: bool
    seconds: float
    requests: int


def play(case: Case, run: int) -> Ended:
    """Run number `run` of `case`."""
    rng = np.random.default_rng([case.seed, run])
    evidence = CanaryEvidence(GuardLimits(), case.poison is not None, SUBJECT)
    places = rng.random(case.poison.users + case.poison.regular) if case.poison else None
    now = 1e6
    for index, phase in enumerate(case.phases):
        if case.poison is None or places is None:
            drawn = draw(phase, case.rps, rng)
        else:
            drawn = draw_sticky(phase, case.rps, case.poison, places, rng)
        ended = _feed(evidence, phase, drawn, now, case.poison is not None)
        if ended is not None:
            guard = next(reading.guard for reading in evidence.readings() if reading.fired)
            return Ended(guard, index < len(case.phases) - 1, *ended)
        now += phase.seconds
    return Ended("", False, 0.0, 0)


def arms_of(weight: float) -> tuple[Arm, Arm]:
    """The canary's arm and stable's, with the canary at `weight` percent."""
    ours = round(weight * 100)
    canary = Arm("model", "default", "v4", "canary", ours, 10_000 - ours, True)
    return canary, Arm("model", "default", "v3", "stable", 10_000 - ours, 0, False, (("v4", "canary", ours),))


def _feed(evidence: CanaryEvidence, phase: Phase, drawn: Drawn, began: float, sticky: bool) -> tuple[float, int] | None:
    """Puts `drawn` before `evidence`; where a guard fires, the seconds and canary requests that it took."""
    arms = arms_of(phase.weight)
    events = _events(arms, drawn, sticky)
    ends = _batches(drawn, phase.batch)
    counted = _counted_by(drawn, phase.lag)
    before = (0, 0)
    start = 0
    at, ours, stables = drawn.at, drawn.ours, drawn.stables
    for end in ends:
        last = end - 1
        known = counted[last]
        counts = (int(ours[known]), int(stables[known])) if known >= 0 else before
        evidence.observe(
            (_counted(arms[0], counts[0] - before[0]), _counted(arms[1], counts[1] - before[1])),
            events[start:end],
            began + float(at[last]),
        )
        if evidence.fired:
            return float(at[last]), int(ours[last])
        before, start = counts, end
    return None


def _counted(arm: Arm, n: int) -> ArmBatch:
    return ArmBatch(arm, ((200, "ok", True, n),))


def _events(arms: tuple[Arm, Arm], drawn: Drawn, sticky: bool) -> list[BadEvent]:
    canary, stable = arms
    columns = zip(drawn.canary.tolist(), drawn.kind.tolist(), drawn.key.tolist(), strict=True)
    if sticky:
        return [BadEvent(canary if ours else stable, kind, key, 0.05) for ours, kind, key in columns]
    made = {
        (ours, kind): BadEvent(canary if ours else stable, kind, 0, 0.05) for ours in (True, False) for kind in range(8)
    }
    return [made[ours, kind] for ours, kind, _ in columns]


def _batches(drawn: Drawn, seconds: float) -> list[int]:
    """Where each batch ends, as indices into the events: at a failure, which no worker holds back, or by time."""
    n = len(drawn.at)
    if not seconds:
        return list(range(1, n + 1))
    ends = (drawn.kind & FAILURE) > 0
    ends[:-1] |= np.diff((drawn.at / seconds).astype(np.int64)) > 0
    ends[-1:] = True
    return [int(end) for end in np.flatnonzero(ends) + 1]


def _counted_by(drawn: Drawn, lag: float) -> list[int]:
    """The event up to which requests are counted by the time of each event, -1 for none."""
    if not lag:
        return list(range(len(drawn.at)))
    return [int(known) for known in np.searchsorted(drawn.at, drawn.at - lag, side="right") - 1]
