"""Adds up what the workers report: counters since this process started, and the last five minutes.

Rules:
1. A batch counts once, by its worker's process and number, however often it arrives.
2. What a worker has in flight is what its latest batch says; a worker that is gone has nothing in flight.
3. The observed share is of observations only, in buckets of five seconds, so that memory is bounded by models,
   versions and regions, never by traffic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from router.clock import Clock
from router.core.outcome import ArmBatch, Histogram, InFlight, OutcomeBatch

BUCKET_SECONDS = 5.0
WINDOW_BUCKETS = 60
REMEMBERED_PROCESSES = 1024

Series = tuple[str, str, str]
"""`(model, version, region)`, the labels that every metric of a version has."""


@dataclass(slots=True)
class Tally:
    """What one version in one region got since this process started. `codes` maps `(code, result)` to a count."""

    codes: dict[tuple[int, str], int] = field(default_factory=dict)
    duration: Histogram = field(default_factory=Histogram)
    upstream: Histogram = field(default_factory=Histogram)
    overhead: Histogram = field(default_factory=Histogram)
    fallbacks: dict[str, int] = field(default_factory=dict)
    retries: int = 0

    def add(self, batch: ArmBatch) -> None:
        """Adds one arm's batch."""
        for code, result, _, n in batch.counts:
            self.codes[code, result] = self.codes.get((code, result), 0) + n
        self.duration += batch.duration
        self.upstream += batch.upstream
        self.overhead += batch.overhead
        for reason, n in batch.fallbacks:
            self.fallbacks[reason] = self.fallbacks.get(reason, 0) + n
        self.retries += batch.retries

    def copy(self) -> Tally:
        """One that stays as it is when more is added to this."""
        return Tally(dict(self.codes), self.duration, self.upstream, self.overhead, dict(self.fallbacks), self.retries)

    def results(self) -> dict[str, int]:
        """Requests by result."""
        sums: dict[str, int] = {}
        for (_, result), n in self.codes.items():
            sums[result] = sums.get(result, 0) + n
        return sums


@dataclass(slots=True)
class _Worker:
    pid: int
    in_flight: tuple[InFlight, ...]


class Totals:
    """The sums over all workers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tallies: dict[Series, Tally] = {}
        self._windows: dict[tuple[str, str], deque[tuple[int, dict[str, int]]]] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._workers: dict[int, _Worker] = {}

    @property
    def tallies(self) -> Mapping[Series, Tally]:
        """By `(model, version, region)`."""
        return self._tallies

    def add(self, batch: OutcomeBatch) -> bool:
        """Adds `batch`; false where it was added before (rule 1)."""
        process = (batch.worker, batch.pid)
        if batch.number <= self._numbers.get(process, -1):
            return False
        self._numbers.pop(process, None)
        self._numbers[process] = batch.number
        if len(self._numbers) > REMEMBERED_PROCESSES:
            del self._numbers[next(iter(self._numbers))]
        if batch.in_flight is not None:
            self._workers[batch.worker] = _Worker(batch.pid, batch.in_flight)
        for arm in batch.arms:
            self._add_arm(arm)
        return True

    def _add_arm(self, batch: ArmBatch) -> None:
        arm = batch.arm
        self._tallies.setdefault((arm.model, arm.version, arm.region), Tally()).add(batch)
        observed = sum(n for _, _, counts, n in batch.counts if counts)
        if not observed:
            return
        window = self._windows.setdefault((arm.model, arm.region), deque(maxlen=WINDOW_BUCKETS))
        bucket = self._bucket()
        if not window or window[-1][0] != bucket:
            window.append((bucket, {}))
        window[-1][1][arm.version] = window[-1][1].get(arm.version, 0) + observed

    def worker_gone(self, worker: int, pid: int) -> None:
        """A worker's process is gone: nothing of it is in flight any more (rule 2)."""
        known = self._workers.get(worker)
        if known is not None and known.pid == pid:
            del self._workers[worker]

    def observed(self, model: str, region: str) -> dict[str, int]:
        """Observations by version over the last five minutes; empty where there were none."""
        oldest = self._bucket() - WINDOW_BUCKETS
        counts: dict[str, int] = {}
        for bucket, versions in self._windows.get((model, region), ()):
            if bucket > oldest:
                for version, n in versions.items():
                    counts[version] = counts.get(version, 0) + n
        return counts

    def rate(self, model: str, region: str) -> float:
        """Observations per second over the last five minutes, or since the first one in them."""
        now = self._bucket()
        recent = [(bucket, sum(counts.values())) for bucket, counts in self._windows.get((model, region), ())
                  if bucket > now - WINDOW_BUCKETS]  # fmt: skip
        if not recent:
            return 0.0
        return sum(n for _, n in recent) / ((now - recent[0][0] + 1) * BUCKET_SECONDS)

    def in_flight(self) -> dict[Series, tuple[int, int]]:
        """By series: `(requests under way in all workers, endpoints ejected in the worker with the most)`."""
        sums: dict[Series, tuple[int, int]] = {}
        for worker in self._workers.values():
            for entry in worker.in_flight:
                key = (entry.model, entry.version, entry.region)
                requests, ejected = sums.get(key, (0, 0))
                sums[key] = (requests + entry.requests, max(ejected, entry.ejected))
        return sums

    def keep_only(self, models: Collection[str]) -> None:
        """Forgets the models that are not among `models`: their series would be shown for ever."""
        for series in [series for series in self._tallies if series[0] not in models]:
            del self._tallies[series]
        for window in [window for window in self._windows if window[0] not in models]:
            del self._windows[window]

    def _bucket(self) -> int:
        return int(self._clock.monotonic() / BUCKET_SECONDS)
