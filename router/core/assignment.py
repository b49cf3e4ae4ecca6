"""Whether requests were split as the weights say: an alarm about the router, never about a canary.

Rules:
1. Only requests that are draws of their own are counted: with sticky keys, one busy user would look like a wrong split.
2. Each region and pair of weights is a stream with evidence of its own; the product of all is the evidence.
3. The first minute of a stream is left out: slow requests are counted when they end, later than quick ones.
4. A deviation that is small beside the weight is not worth an alarm. An alarm stays.
5. Memory is bounded: of many streams the oldest are closed, and their evidence is kept as a number.
"""

from __future__ import annotations

from math import log

import msgspec

from router.core.evidence import SampleRatio

FALSE_ALARM = 0.001
"""Chance that a right split ever raises the alarm."""

SETTLING = 60.0
"""Seconds at the start of a stream that are left out."""

NEGLIGIBLE = 0.02
"""A share within this fraction of the smaller weight raises no alarm."""

_MOST_STREAMS = 64

Stream = tuple[str, int, int]
"""Region, the canary's weight, stable's weight."""


class StreamState(msgspec.Struct, frozen=True, array_like=True):
    """Assignments of one region at one pair of weights."""

    region: str
    weight: int
    stable_weight: int
    canary: int
    stable: int


class AssignmentState(msgspec.Struct, frozen=True, array_like=True):
    """What `Assignments.restore` needs: `past` is the logarithm of the evidence of streams that were closed."""

    streams: tuple[StreamState, ...] = ()
    past: float = 0.0
    alarmed: bool = False


class Assignments:
    """Counts of assignments, by stream."""

    __slots__ = ("_begun", "_past", "_streams", "alarmed")

    def __init__(self) -> None:
        self._streams: dict[Stream, SampleRatio] = {}
        self._begun: dict[Stream, float] = {}
        self._past = 0.0
        self.alarmed = False

    def add(self, stream: Stream, canary: bool, n: int, now: float) -> None:
        """Counts `n` requests of `stream` that went to the canary, or else to stable; `now` is monotonic seconds."""
        if now - self._begun.setdefault(stream, now) < SETTLING:
            return
        ratio = self._streams.get(stream)
        if ratio is None:
            ratio = self._open(stream)
        ratio.add(n if canary else 0, 0 if canary else n)

    @property
    def log_e(self) -> float:
        """The natural logarithm of the evidence that the split is not the one declared."""
        return self._past + sum(ratio.log_e(_pi(stream)) for stream, ratio in self._streams.items())

    @property
    def totals(self) -> tuple[int, int]:
        """Requests of the canary and of stable that were counted in the streams still open."""
        ratios = self._streams.values()
        return sum(ratio.canary for ratio in ratios), sum(ratio.stable for ratio in ratios)

    def check(self) -> bool:
        """Whether the split is not the one declared, now or before."""
        if not self.alarmed and self._streams:
            self.alarmed = self.log_e >= log(1.0 / FALSE_ALARM) and self._matters()
        return self.alarmed

    def state(self) -> AssignmentState:
        """What `restore` needs to go on."""
        streams = tuple(StreamState(*stream, ratio.canary, ratio.stable) for stream, ratio in self._streams.items())
        return AssignmentState(streams, self._past, self.alarmed)

    def restore(self, state: AssignmentState) -> None:
        """Goes on from `state`; every stream settles again."""
        self._past = state.past
        self.alarmed = state.alarmed
        for each in state.streams:
            self._open((each.region, each.weight, each.stable_weight)).add(each.canary, each.stable)

    def _open(self, stream: Stream) -> SampleRatio:
        if len(self._streams) >= _MOST_STREAMS:
            oldest = next(iter(self._streams))
            self._past += self._streams.pop(oldest).log_e(_pi(oldest))
            self._begun.pop(oldest, None)
        ratio = self._streams[stream] = SampleRatio()
        return ratio

    def _matters(self) -> bool:
        for stream, ratio in self._streams.items():
            pi, n = _pi(stream), ratio.canary + ratio.stable
            if abs(ratio.canary - pi * n) > NEGLIGIBLE * min(pi, 1.0 - pi) * n:
                return True
        return False


def _pi(stream: Stream) -> float:
    _, weight, stable_weight = stream
    return weight / (weight + stable_weight)
