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


Cell = tuple[int, str, bool, int, int, int]
"""code, result, observed, and the buckets of duration, upstream's part and the router's part."""

_Told = tuple[tuple[tuple[int, str, bool, int], ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_NONE = (0,) * (len(BUCKETS) + 1)
_LONE = [[(*_NONE[:at], n, *_NONE[at + 1 :]) for at in range(len(_NONE))] for n in range(8)]
"""By n and bucket: the counts of a histogram that has nothing else."""


def _lone(n: int, at: int) -> tuple[int, ...]:
    return _LONE[n][at] if n < len(_LONE) else (*_NONE[:at], n, *_NONE[at + 1 :])


class _Sums:
    """What is known of one arm since the last batch."""

    __slots__ = ("cells", "duration", "fallbacks", "retries", "upstream")

    def __init__(self) -> None:
        self.cells: dict[Cell, int] = {}
        self.duration = 0.0
        self.upstream = 0.0
        self.fallbacks: dict[str, int] | None = None
        self.retries = 0

    def batch(self, arm: LiveArm) -> ArmBatch:
        """The sums as a message."""
        counts, duration, upstream, overhead = self._told()
        return ArmBatch(
            arm.key,
            counts,
            Histogram(duration, self.duration),
            Histogram(upstream, self.upstream),
            Histogram(overhead, self.duration - self.upstream),
            tuple(self.fallbacks.items()) if self.fallbacks else (),
            self.retries,
        )

    def _told(self) -> _Told:
        """The counts, and the three histograms' counts; most of a thousand arms have one cell only."""
        if len(self.cells) == 1:
            (((code, result, observed, whole, upstreams, ours), n),) = self.cells.items()
            return ((code, result, observed, n),), _lone(n, whole), _lone(n, upstreams), _lone(n, ours)
        counts: dict[tuple[int, str, bool], int] = {}
        duration, upstream, overhead = list(_NONE), list(_NONE), list(_NONE)
        for (code, result, observed, whole, upstreams, ours), n in self.cells.items():
            key = (code, result, observed)
            counts[key] = counts.get(key, 0) + n
            duration[whole] += n
            upstream[upstreams] += n
            overhead[ours] += n
        return tuple((*key, n) for key, n in counts.items()), tuple(duration), tuple(upstream), tuple(overhead)


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
            cell = (
                code,
                result,
                observed,
                bisect_left(BUCKETS, duration),
                bisect_left(BUCKETS, upstream),
                bisect_left(BUCKETS, duration - upstream),
            )
            cells = sums.cells
            cells[cell] = cells.get(cell, 0) + 1
            sums.duration += duration
            sums.upstream += upstream
            if fallback:
                sums.fallbacks = sums.fallbacks or {}
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
