"""Records of single requests, folded into batches for control.

Rules:
1. The request path only appends a tuple; everything else happens here, a few times a second.
2. A batch leaves every 100 ms if there is something to say, and at once (within 10 ms) after a failure.
3. While control is away batches add up into one; nothing is thrown away before there are many distinct arms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from router.core.outcome import BUCKETS, Arm, ArmBatch, Histogram

Record = tuple[Arm, int, str, bool, float, float, str, int]
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
        self.totals = [0.0, 0.0, 0.0]
        self.fallbacks: dict[str, int] = {}
        self.retries = 0

    def add(self, record: Record) -> None:
        """Adds one request."""
        _, code, result, observed, duration, upstream, fallback, retries = record
        key = (code, result, observed)
        counts = self.counts
        counts[key] = counts.get(key, 0) + 1
        overhead = max(0.0, duration - upstream)
        self.duration[bisect_left(BUCKETS, duration)] += 1
        self.upstream[bisect_left(BUCKETS, upstream)] += 1
        self.overhead[bisect_left(BUCKETS, overhead)] += 1
        totals = self.totals
        totals[0] += duration
        totals[1] += upstream
        totals[2] += overhead
        if fallback:
            self.fallbacks[fallback] = self.fallbacks.get(fallback, 0) + 1
        self.retries += retries

    def batch(self, arm: Arm) -> ArmBatch:
        """The sums as a message."""
        return ArmBatch(
            arm=arm,
            counts=tuple((*key, n) for key, n in self.counts.items()),
            duration=Histogram(tuple(self.duration), self.totals[0]),
            upstream=Histogram(tuple(self.upstream), self.totals[1]),
            overhead=Histogram(tuple(self.overhead), self.totals[2]),
            fallbacks=tuple(self.fallbacks.items()),
            retries=self.retries,
        )


class Recorder:
    """Sums per arm, until they are sent."""

    def __init__(self) -> None:
        self._sums: dict[Arm, _Sums] = {}

    def fold(self, records: Iterable[Record]) -> None:
        """Adds single requests."""
        sums = self._sums
        for record in records:
            arm = record[0]
            of_arm = sums.get(arm)
            if of_arm is None:
                if len(sums) >= MAX_ARMS:
                    continue
                of_arm = sums[arm] = _Sums()
            of_arm.add(record)

    def take(self) -> tuple[ArmBatch, ...]:
        """All sums as messages; starts anew."""
        sums, self._sums = self._sums, {}
        return tuple(of_arm.batch(arm) for arm, of_arm in sums.items())
