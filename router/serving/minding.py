"""How a process minds what its model is doing: others see it, a prediction that hangs is told from one that works.

Rules:
1. By when a prediction must have ended stands on the board; past that the parent kills, whatever this process does.
2. What runs on the loop is cut off by a signal after `QUICK_LIMIT`: nothing else could run meanwhile.
3. What takes much longer than anything before, while others wait or nobody waits for it any more, makes the process
   leave: the others go to one that takes its place.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from router.serving import handover
from router.serving.answers import Answer
from router.serving.request import Request

if TYPE_CHECKING:
    from router.serving.forks import Place

T = TypeVar("T")
QUICK_LIMIT = 1.0
_UNUSUAL = 4
_GRACE = 1.0


class Overdue(BaseException):
    """Raised inside a prediction on the loop that takes too long. Not an `Exception`, which a model might catch."""


class Minder:
    """Of a process that is alone, as in tests: nobody sees it, nothing is cut off, and it never leaves."""

    def __init__(self) -> None:
        self.longest = 0.0

    @property
    def unusual(self) -> float:
        """Seconds after which a prediction takes longer than any before."""
        return max(QUICK_LIMIT, _UNUSUAL * self.longest)

    def took(self, seconds: float) -> None:
        """A prediction has ended after `seconds`."""
        self.longest = max(self.longest, seconds)

    def expect(self, seconds: float) -> None:
        """A prediction begins that must end within `seconds`; 0: none runs."""

    def cut_off(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises Overdue where that takes too long (rule 2)."""
        return work()

    def leave(self) -> bool:
        """Whether the process leaves (rule 3)."""
        return False

    async def hand_over(self, request: Request) -> Answer:
        """The answer of a process that stays."""
        raise NotImplementedError


class Forked(Minder):
    """Of the process at `place`; `inner` is the socket of all processes, `leave` ends this one's accepting."""

    def __init__(self, place: Place, inner: Path) -> None:
        super().__init__()
        self._place = place
        self._inner = inner
        self.end: Callable[[], None] = lambda: None
        signal.signal(signal.SIGALRM, _overdue)

    @property
    def unusual(self) -> float:
        """See `Minder`: longer than any in the processes before this one, too."""
        self.longest = max(self.longest, self._place.board.longest)
        return super().unusual

    def took(self, seconds: float) -> None:
        """See `Minder`."""
        if seconds > self.longest:
            self.longest = self._place.board.longest = seconds

    def expect(self, seconds: float) -> None:
        """See `Minder`."""
        self._place.board.expect(self._place.number, time.monotonic() + seconds + _GRACE if seconds else 0.0)

    def cut_off(self, work: Callable[[], T]) -> T:
        """See `Minder`."""
        try:
            signal.setitimer(signal.ITIMER_REAL, QUICK_LIMIT)
            return work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def leave(self) -> bool:
        """See `Minder`."""
        if not self._place.board.may_leave:
            return False
        self._place.say("leaving")
        self.end()
        return True

    async def hand_over(self, request: Request) -> Answer:
        """See `Minder`."""
        return await handover.hand_over(request, self._inner)


def _overdue(_signal: int, _frame: object) -> None:
    raise Overdue
