"""Requests, failures and durations of versions over a chosen window.

Rules:
1. What was counted until some moment is kept now and then; a window is the difference between then and now. Memory is
   bounded by models, versions and regions, never by traffic; a series that had no request is not kept again.
2. A version that came into use inside a window is shown from its first request on.
3. Durations are known by bucket: a quantile lies somewhere in its bucket, and is told as the point that an even
   spread would give.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from router.control.totals import Series, Tally
from router.core.outcome import BUCKETS, Histogram

WINDOWS: Mapping[str, float | None] = {"5m": 300.0, "1h": 3600.0, "all": None}
"""What can be chosen, in seconds; None is since control started."""

FINE_SECONDS, COARSE_SECONDS = 20.0, 300.0
_FINE, _COARSE = 16, 13
_NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Figures:
    """What one version got. `codes` by status as clients saw it, `results` by what became of them."""

    codes: Mapping[int, int] = field(default_factory=dict)
    results: Mapping[str, int] = field(default_factory=dict)
    duration: Histogram = field(default_factory=Histogram)
    overhead: Histogram = field(default_factory=Histogram)

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.results.values())

    @property
    def failures(self) -> int:
        """Its own failures, those that stable answered included."""
        return self.results.get("failure", 0) + self.results.get("fallback", 0)

    @property
    def failure_rate(self) -> float | None:
        """Between 0 and 1; None where there was no request."""
        return self.failures / self.requests if self.requests else None

    def quantile(self, q: float) -> float | None:
        """See `quantile`."""
        return quantile(self.duration, q)


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    codes: tuple[tuple[tuple[int, str], int], ...]
    duration: Histogram
    overhead: Histogram


class History:
    """What was counted before; `sample` is to be called every `FINE_SECONDS` or so."""

    def __init__(self) -> None:
        self._fine: dict[Series, deque[_Sample]] = {}
        self._coarse: dict[Series, deque[_Sample]] = {}
        self._coarse_at = float("-inf")
        self.since: float | None = None

    def sample(self, tallies: Mapping[Series, Tally], now: float) -> None:
        """Keeps what was counted by `now` (monotonic seconds), and forgets what is not counted any more."""
        if self.since is None:
            self.since = now
        _keep(self._fine, tallies, now, _FINE)
        if now - self._coarse_at >= COARSE_SECONDS:
            self._coarse_at = now
            _keep(self._coarse, tallies, now, _COARSE)

    def figures(
        self, tallies: Mapping[Series, Tally], series: Iterable[Series], window: float | None, now: float
    ) -> Figures:
        """The sum over `series` in the last `window` seconds."""
        codes: dict[int, int] = {}
        results: dict[str, int] = {}
        duration, overhead = Histogram(), Histogram()
        for one in series:
            tally = tallies.get(one, _NOTHING)
            before = self._before(one, window, now)
            earlier = dict(before.codes) if before is not None else {}
            for key, n in tally.codes.items():
                if more := n - earlier.get(key, 0):
                    code, result = key
                    codes[code] = codes.get(code, 0) + more
                    results[result] = results.get(result, 0) + more
            duration += _less(tally.duration, before.duration if before is not None else None)
            overhead += _less(tally.overhead, before.overhead if before is not None else None)
        return Figures(dict(sorted(codes.items())), results, duration, overhead)

    def _before(self, series: Series, window: float | None, now: float) -> _Sample | None:
        """What was counted when the window began."""
        if window is None:
            return None
        kept = (self._fine if window <= FINE_SECONDS * (_FINE - 1) else self._coarse).get(series)
        if kept is None:
            return None
        at = bisect_right([sample.at for sample in kept], now - window)
        return kept[at - 1] if at else None


def _keep(kept: dict[Series, deque[_Sample]], tallies: Mapping[Series, Tally], now: float, most: int) -> None:
    for series in [series for series in kept if series not in tallies]:
        del kept[series]
    for series, tally in tallies.items():
        samples = kept.setdefault(series, deque(maxlen=most))
        if not samples or samples[-1].duration is not tally.duration:
            samples.append(_Sample(now, tuple(tally.codes.items()), tally.duration, tally.overhead))


def _less(now: Histogram, before: Histogram | None) -> Histogram:
    if before is None:
        return now
    counts = tuple(a - b for a, b in zip(now.counts, before.counts, strict=True))
    return Histogram(counts, now.total - before.total)


def quantile(histogram: Histogram, q: float) -> float | None:
    """The duration, in seconds, that a share `q` of all lay below (rule 3); None where there are none.

    What lies beyond the last bucket is told as its lower bound.
    """
    wanted = q * histogram.count
    if not wanted:
        return None
    so_far = 0
    for index, n in enumerate(histogram.counts):
        if n and so_far + n >= wanted:
            low, high = _bounds(index)
            return low + (high - low) * (wanted - so_far) / n
        so_far += n
    return BUCKETS[-1]


def _bounds(index: int) -> tuple[float, float]:
    low = BUCKETS[index - 1] if index else 0.0
    return low, BUCKETS[index] if index < len(BUCKETS) else low


def shares(histogram: Histogram) -> Sequence[float]:
    """The share of all durations in each bucket, between 0 and 1; all 0 where there are none."""
    total = histogram.count
    return [n / total if total else 0.0 for n in histogram.counts]
