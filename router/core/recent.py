"""How an arm has done lately: over the last minute, and over its last few requests.

Rules:
1. Fixed memory, whatever the traffic: twelve slices of five seconds, and one average.
2. Times are monotonic seconds that the caller gives; they need not advance evenly, and never run backwards here.
3. What is older than a minute is forgotten. A restart forgets everything.
"""

from __future__ import annotations

SLICE = 5.0
SLICES = 12
WINDOW = SLICE * SLICES
"""Seconds that are looked back."""

LAST = 20.0
"""About how many requests the average over the last few looks back."""


class Recent:
    """Requests and failures of the last minute."""

    __slots__ = ("_at", "_bad", "_n", "lately")

    def __init__(self) -> None:
        self._at = 0
        self._n = [0] * SLICES
        self._bad = [0] * SLICES
        self.lately = 0.0

    def add(self, n: int, bad: int, now: float) -> None:
        """Counts `n` requests of which `bad` failed, the failures last. Some failures may come before their count."""
        self._advance(now)
        at = self._at % SLICES
        self._n[at] += n
        self._bad[at] += bad
        keep = 1.0 - 1.0 / LAST
        self.lately = 1.0 - (1.0 - self.lately * keep ** max(0, n - bad)) * keep**bad

    def requests(self, now: float) -> int:
        """Requests of the last minute."""
        self._advance(now)
        return sum(self._n)

    def failing(self, share: float, now: float) -> bool:
        """Whether at least `share` failed, over the last minute or over the last few requests in it."""
        self._advance(now)
        n, bad = sum(self._n), sum(self._bad)
        return bad > 0 and (bad >= share * max(n, bad) or self.lately >= share)

    def _advance(self, now: float) -> None:
        at = int(now // SLICE)
        if at == self._at:
            return
        for index in range(max(self._at + 1, at - SLICES + 1), at + 1):
            self._n[index % SLICES] = self._bad[index % SLICES] = 0
        self._at = max(self._at, at)
