"""From when on a request counts as slow: stable's own quantile, learnt as requests go by.

Rules:
1. τ of a model in a region is stable's q-quantile over requests that have ended: the past only, so that whether a
   request is slow is settled by a bound that was there before it.
2. The past fades: its weight halves with every `HALF_LIFE` seconds of monotonic time. A bound needs `ENOUGH` requests
   beyond the quantile, and stays where requests end.
3. A bound changes only by more than `STEP` of itself, and at most every `PAUSE` seconds: each change is another
   snapshot for every worker.
4. Memory is one histogram for each model and region, whatever the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from router.core.outcome import BUCKETS, ArmBatch

HALF_LIFE = 300.0
ENOUGH = 5.0
STEP = 0.05
PAUSE = 10.0
LEAST = 0.001
"""Seconds; a bound below that would be about the machine's scheduler."""

Place = tuple[str, str]
"""A model and a region."""


@dataclass(slots=True)
class _Past:
    counts: list[float] = field(default_factory=lambda: [0.0] * (len(BUCKETS) + 1))
    faded_at: float = 0.0
    bound: float = 0.0
    set_at: float = -math.inf

    def fade(self, now: float) -> None:
        factor = 0.5 ** ((now - self.faded_at) / HALF_LIFE)
        self.counts = [count * factor for count in self.counts]
        self.faded_at = now


def quantile(counts: Collection[float], q: float) -> float:
    """The q-quantile (seconds) of a histogram over `BUCKETS`, by its logarithm within a bucket; 0 where it is unknown.

    Unknown: fewer than `ENOUGH` requests lie beyond it, or it lies beyond the last bound.
    """
    total = sum(counts)
    if total * (1.0 - q) < ENOUGH:
        return 0.0
    wanted = total * q
    below = 0.0
    lower = BUCKETS[0] / 2
    for upper, count in zip(BUCKETS, counts, strict=False):
        if below + count >= wanted and count > 0:
            share = (wanted - below) / count
            return float(lower * (upper / lower) ** share)
        below += count
        lower = upper
    return 0.0


class Bounds:
    """τ of every model in every region."""

    def __init__(self) -> None:
        self._pasts: dict[Place, _Past] = {}

    def learn(self, arms: Iterable[ArmBatch], now: float) -> None:
        """Takes in what stable versions did; `now` in monotonic seconds."""
        for batch in arms:
            arm = batch.arm
            if arm.canary:
                continue
            past = self._pasts.get((arm.model, arm.region))
            if past is None:
                past = self._pasts[arm.model, arm.region] = _Past(faded_at=now)
            if now - past.faded_at > HALF_LIFE / 100:
                past.fade(now)
            past.counts = [a + b for a, b in zip(past.counts, batch.duration.counts, strict=True)]

    def settle(self, place: Place, q: float, now: float) -> bool:
        """Sets the bound of `place` to the q-quantile where rule 3 lets it; whether it changed."""
        past = self._pasts.get(place)
        if past is None or (past.bound and now - past.set_at < PAUSE):
            return False
        wanted = max(quantile(past.counts, q), LEAST)
        if not quantile(past.counts, q) or abs(wanted - past.bound) <= STEP * past.bound:
            return False
        past.bound, past.set_at = wanted, now
        return True

    def bound(self, place: Place) -> float:
        """τ of `place` in seconds; 0 where it is not known yet."""
        past = self._pasts.get(place)
        return past.bound if past is not None else 0.0

    def keep_only(self, models: Collection[str]) -> None:
        """Forgets the models that are not among `models`."""
        for place in [place for place in self._pasts if place[0] not in models]:
            del self._pasts[place]
