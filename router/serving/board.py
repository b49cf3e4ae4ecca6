"""What forked processes and their parent see of each other, in memory that they share.

Rules:
1. One place per process. Each value has one writer, and is a double, which is written in one piece.
2. Times are of the machine's monotonic clock, in seconds, the same in all processes.
"""

from __future__ import annotations

import mmap

_DEADLINE, _CONNECTIONS = range(2)
_WIDTH = 2
NOBODY = -1.0


class Board:
    """`places` processes: by when a prediction must have ended (0: none runs), and how many connections each has."""

    def __init__(self, places: int) -> None:
        self.places = places
        # The last two are common: how many processes are about to leave, and the longest prediction so far.
        self._values = memoryview(mmap.mmap(-1, 8 * (_WIDTH * places + 2))).cast("d")
        for place in range(places):
            self.clear(place)

    def clear(self, place: int) -> None:
        """Nobody is there."""
        self._values[_WIDTH * place + _DEADLINE] = 0.0
        self._values[_WIDTH * place + _CONNECTIONS] = NOBODY

    def expect(self, place: int, deadline: float) -> None:
        """What runs at `place` has to end by `deadline`; 0: nothing runs."""
        self._values[_WIDTH * place + _DEADLINE] = deadline

    def deadline(self, place: int) -> float:
        """See `expect`."""
        return self._values[_WIDTH * place + _DEADLINE]

    def connected(self, place: int, connections: float) -> None:
        """How many connections `place` has; `NOBODY` where it takes none."""
        self._values[_WIDTH * place + _CONNECTIONS] = connections

    def fewest(self) -> float:
        """The connections of the process that has the fewest, among those that take some."""
        return min(
            (held for held in self._values[_CONNECTIONS : _WIDTH * self.places : _WIDTH] if held >= 0), default=0
        )

    def leaving(self, number: int) -> None:
        """The parent's: so many processes are about to leave."""
        self._values[_WIDTH * self.places] = number

    @property
    def may_leave(self) -> bool:
        """Whether another process may leave: each that does is a process more for a while."""
        return self._values[_WIDTH * self.places] < self.places // 2

    @property
    def longest(self) -> float:
        """Seconds that the longest prediction took. Written by all processes: one too low at times does no harm."""
        return self._values[_WIDTH * self.places + 1]

    @longest.setter
    def longest(self, seconds: float) -> None:
        self._values[_WIDTH * self.places + 1] = seconds
