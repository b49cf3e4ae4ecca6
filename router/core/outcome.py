"""What became of requests, in a form that adds up across workers and nodes.

Rules:
1. One client request on a prediction path is one observation, of the version that was picked for it.
2. An outcome carries the weights that were in force when its version was picked: evidence needs them.
3. Everything adds up: the sum of two batches says the same as one batch of all their requests.
4. Seconds for durations; counts are exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

Result = Literal["ok", "rejection", "failure", "fallback", "abandoned"]

BUCKETS: tuple[float, ...] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the latency histogram, in seconds; a last bucket without a bound follows."""


class Histogram(msgspec.Struct, frozen=True, array_like=True):
    """Durations: `counts[i]` of them lay in bucket i (not cumulative, shape `len(BUCKETS) + 1`); `total` seconds."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    total: float = 0.0

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), self.total + other.total)


def histogram_of(durations: Iterable[float]) -> Histogram:
    """The histogram of `durations` (seconds)."""
    counts = [0] * (len(BUCKETS) + 1)
    total = 0.0
    for duration in durations:
        counts[bisect_left(BUCKETS, duration)] += 1
        total += duration
    return Histogram(tuple(counts), total)


class Arm(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whose outcome it is: the picked version, and the effective weights at that moment (hundredths of a percent).

    `digest` is the version's; evidence starts anew with another one. `rivals` of a stable are the canaries beside it
    that had weight: `(version, digest, weight)`.
    """

    model: str
    region: str
    version: str
    digest: str
    weight: int
    stable_weight: int
    canary: bool
    rivals: tuple[tuple[str, str, int], ...] = ()


FAILURE = 1
REJECTION = 2
SLOW = 4
"""What a `BadEvent` is; they add up where one request is several at once."""


class BadEvent(msgspec.Struct, frozen=True, array_like=True):
    """One bad outcome of an observation, for the evidence: only these tell two versions apart.

    `kind` is a sum of `FAILURE`, `REJECTION` and `SLOW`; `key` a 64-bit hash of the sticky key, 0 where there is none;
    `age` how old the request was, in seconds. A request is slow the moment its age passes its version's bound, perhaps
    long before it ends; its end is then another event, or none.
    """

    arm: Arm
    kind: int
    key: int
    age: float


class ArmBatch(msgspec.Struct, frozen=True, array_like=True):
    """The outcomes of one arm over one batch.

    `counts` holds `(code, result, observed, n)`: `code` as the client saw it (499 where it went away first), `observed`
    false for what is no observation (overrides). `fallbacks` holds `(reason, n)`.
    """

    arm: Arm
    counts: tuple[tuple[int, str, bool, int], ...] = ()
    duration: Histogram = Histogram()
    upstream: Histogram = Histogram()
    overhead: Histogram = Histogram()
    fallbacks: tuple[tuple[str, int], ...] = ()
    retries: int = 0


class InFlight(msgspec.Struct, frozen=True, array_like=True):
    """How many requests one version has under way in one worker, and how many of its endpoints are ejected."""

    model: str
    region: str
    version: str
    requests: int
    ejected: int


class OutcomeBatch(msgspec.Struct, frozen=True, tag="outcomes"):
    """What one worker saw since its batch before. `number` rises by one with each batch of a worker's process.

    `in_flight` lists every version that has something under way; None where nothing is said of it this time.
    `bad` holds the bad events of models with a canary, in the order in which they happened.
    """

    worker: int
    pid: int
    number: int
    arms: tuple[ArmBatch, ...] = ()
    in_flight: tuple[InFlight, ...] | None = None
    bad: tuple[BadEvent, ...] = ()


def add_counts(
    left: Sequence[tuple[int, str, bool, int]], right: Sequence[tuple[int, str, bool, int]]
) -> tuple[tuple[int, str, bool, int], ...]:
    """The sum of two `ArmBatch.counts`, in a stable order."""
    totals: dict[tuple[int, str, bool], int] = {}
    for code, result, observed, n in (*left, *right):
        key = (code, result, observed)
        totals[key] = totals.get(key, 0) + n
    return tuple((*key, n) for key, n in sorted(totals.items()))
