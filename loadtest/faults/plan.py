"""What a generator is to send, and what it recorded.

Rules:
1. All times are seconds of the machine's monotonic clock, the same in every process.
2. A latency counts from the scheduled moment: a generator or a router that is late cannot hide it.
3. `status` 0 is a request without a whole answer; `error` then says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """What to send to `port` on loopback.

    `rate` requests per second for `seconds`, at exponential intervals, `paths` in turn; or, with `closed`, so many
    connections that each send the next request when the last was answered. `body` bytes each. An answer is awaited for
    `patience` seconds. `fresh`: share of the requests that get a connection of their own.
    """

    port: int
    rate: float
    seconds: float
    paths: tuple[str, ...] = ("/models/bench/invocations",)
    body: int = 500
    closed: int = 0
    patience: float = 10.0
    connections: int = 4000
    fresh: float = 0.0
    seed: int = 1


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One request. `path` indexes the plan's paths; `local` is the client's port; `error` is "" for an answer."""

    number: int
    path: int
    scheduled: float
    sent: float
    first: float
    done: float
    status: int
    version: str
    local: int
    error: str

    @property
    def latency(self) -> float:
        """From when it should have been sent until its answer was whole."""
        return self.done - self.scheduled

    @property
    def failed(self) -> bool:
        """Whether the client did not get a prediction."""
        return self.status != 200


def quantile(values: Iterable[float], share: float) -> float:
    """The value that `share` of `values` do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def between(records: Iterable[Record], start: float, end: float) -> list[Record]:
    """Those that were scheduled from `start` on and before `end`."""
    return [record for record in records if start <= record.scheduled < end]


def p99(records: Iterable[Record]) -> float:
    """Of the latency of those that were answered with a prediction, in seconds."""
    return quantile((record.latency for record in records if not record.failed), 0.99)


def usual_p99(records: Sequence[Record], start: float, end: float) -> float:
    """The median of the p99s of each whole second from `start` to `end`.

    On a shared machine something else takes the processor for a moment now and then; what lasts shows here, a moment
    does not.
    """
    seconds = range(max(1, int(end - start)))
    return quantile((p99(between(records, start + second, start + second + 1)) for second in seconds), 0.5)
