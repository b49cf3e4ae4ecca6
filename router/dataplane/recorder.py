"""Records of single requests, folded into batches for control.

Rules:
1. The request path only appends a tuple; everything else happens here, a few times a second.
2. A batch leaves every 100 ms if there is something to say, and at once (within 10 ms) after a failure.
3. While control is away batches add up into one; nothing is thrown away before there are many distinct arms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.core.outcome import BUCKETS, ArmBatch, Histogram

if TYPE_CHECKING:
    from router.dataplane.routes import LiveArm

Record = tuple["LiveArm", int, str, bool, float, float, str, int]
"""arm, code, result, observed, duration, upstream's part of it, reason of a fallback or "", retries."""

MAX_ARMS = 50_000


class _Sums:
    """What is known of one arm since the last batch."""

    __slots__ = ("counts", "duration", "fallbacks", "overhead", "retries", "totals", "upstream")

    def __init__(self) -> None:
        self.counts: dict[tuple[int, str, bool], int] = {}
        self.duration = [0] * (len(BUCKETS) + 1)
        self.upstream = [0] * (len(BUCKETS) + 1)
        self.overhead = [0] * (len(BUCKETS) + 1)
        self.totals = [0.0, 0.0]
        self.fallbacks: dict[str, int] = {}
        self.retries = 0

    def batch(self, arm: LiveArm) -> ArmBatch:
        """The sums as a message."""
        duration, upstream = self.totals
        return ArmBatch(
            arm=arm.key,
            counts=tuple((*key, n) for key, n in self.counts.items()),
            duration=Histogram(tuple(self.duration), duration),
            upstream=Histogram(tuple(self.upstream), upstream),
            overhead=Histogram(tuple(self.overhead), duration - upstream),
            fallbacks=tuple(self.fallbacks.items()),
            retries=self.retries,
        )


class Recorder:
    """Sums per arm, until they are sent. An arm is told apart by identity: hashing its key costs more than adding."""

    def __init__(self) -> None:
        self._sums: dict[LiveArm, _Sums] = {}

    def fold(self, records: Iterable[Record]) -> None:
        """Adds single requests. One loop without calls of its own: this is a part of every request's cost."""
        for arm, code, result, observed, duration, upstream, fallback, retries in records:
            sums = self._sums.get(arm) or self._begin(arm)
            if sums is None:
                continue
            key = (code, result, observed)
            counts = sums.counts
            counts[key] = counts.get(key, 0) + 1
            sums.duration[bisect_left(BUCKETS, duration)] += 1
            sums.upstream[bisect_left(BUCKETS, upstream)] += 1
            sums.overhead[bisect_left(BUCKETS, duration - upstream)] += 1
            totals = sums.totals
            totals[0] += duration
            totals[1] += upstream
            if fallback:
                sums.fallbacks[fallback] = sums.fallbacks.get(fallback, 0) + 1
            if retries:
                sums.retries += retries

    def _begin(self, arm: LiveArm) -> _Sums | None:
        if len(self._sums) >= MAX_ARMS:
            return None
        sums = self._sums[arm] = _Sums()
        return sums

    def take(self) -> tuple[ArmBatch, ...]:
        """All sums as messages; starts anew."""
        sums, self._sums = self._sums, {}
        return tuple(of_arm.batch(arm) for arm, of_arm in sums.items())
