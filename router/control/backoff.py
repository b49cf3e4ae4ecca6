"""When to try again what failed.

Rules:
1. The pause doubles from one failure to the next, up to a limit, and starts anew after a success.
2. After three failures in a row a thing is given up on: nobody waits for it any more, but it is still tried.
"""

from __future__ import annotations

GIVE_UP_AFTER = 3


class Backoff:
    """Pauses between `first` and `limit` seconds."""

    def __init__(self, first: float = 1.0, limit: float = 30.0) -> None:
        self._first = first
        self._limit = limit
        self.failures = 0

    @property
    def given_up(self) -> bool:
        """Rule 2."""
        return self.failures >= GIVE_UP_AFTER

    @property
    def pause(self) -> float:
        """Seconds until the next try."""
        return float(min(self._limit, self._first * 2 ** max(0, min(self.failures, 30) - 1)))

    def fail(self) -> None:
        """Another failure."""
        self.failures += 1

    def succeed(self) -> None:
        """A success: rule 1."""
        self.failures = 0
