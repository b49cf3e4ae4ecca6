"""When an endpoint is left out for a while.

Rules:
1. Five failures in a row eject an endpoint; any success clears the row.
2. The n-th ejection lasts n × 10 s. While it was good for ten minutes since, n starts again.
3. After an ejection the next failure ejects again at once: the endpoint is on trial until its first success.
4. Who has no other endpoint tries an ejected one all the same; that choice is the caller's, not made here.
"""

from __future__ import annotations

FAILURES_IN_A_ROW = 5
BASE_SECONDS = 10.0
FORGIVEN_AFTER = 600.0


class EndpointHealth:
    """One endpoint's standing. Times are monotonic seconds, handed in."""

    __slots__ = ("ejected_until", "failures", "times")

    def __init__(self) -> None:
        self.failures = 0
        self.times = 0
        self.ejected_until = 0.0

    def succeeded(self) -> None:
        """A response came that is no failure."""
        self.failures = 0

    def failed(self, now: float) -> bool:
        """A request failed; returns whether that ejected the endpoint."""
        self.failures += 1
        if self.failures < FAILURES_IN_A_ROW or now < self.ejected_until:
            return False
        if now - self.ejected_until > FORGIVEN_AFTER:
            self.times = 0
        self.times += 1
        self.failures = FAILURES_IN_A_ROW - 1
        self.ejected_until = now + BASE_SECONDS * self.times
        return True
