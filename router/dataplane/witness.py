"""Bad outcomes, told to control one by one: what evidence is made of.

Rules:
1. Only observations of a version under judgement are told: one that has a canary beside it, or is one.
2. A failure or rejection is told when the version has failed, even while stable is still answering in its place.
3. A request is told slow once, the moment its age passes its version's bound: it need not end to be counted.
4. What a client abandoned is told for nobody, unless it was slow before.
5. Over a bound further events are dropped whichever version they are of: that leaves the evidence valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from router.core.outcome import FAILURE, REJECTION, SLOW, BadEvent
from router.core.split import fingerprint

if TYPE_CHECKING:
    from router.dataplane.exchange import Exchange
    from router.dataplane.protocol import ClientConnection

MAX_EVENTS = 20_000


class Witness:
    """Collects bad events until they are taken; `soon` is called when there is one that should not wait."""

    def __init__(self, soon: Callable[[], None]) -> None:
        self._soon = soon
        self._events: list[BadEvent] = []

    def take(self) -> tuple[BadEvent, ...]:
        """The events since the last call, in the order in which they happened."""
        events, self._events = self._events, []
        return tuple(events)

    def failed(self, exchange: Exchange, kind: int, now: float) -> None:
        """The picked version failed or rejected `exchange`, and another answers in its place."""
        self._tell(exchange, kind | SLOW if kind == FAILURE else kind, now)

    def ended(self, exchange: Exchange, result: str, now: float) -> None:
        """An exchange has ended with something else than a timely response."""
        if result == "abandoned" or exchange.fallback_reason:
            return
        kind = {"failure": FAILURE | SLOW, "rejection": REJECTION}.get(result, 0)
        if exchange.picked is not None and now - exchange.start > exchange.picked.slow_after:
            kind |= SLOW
        self._tell(exchange, kind, now)

    def look(self, connections: Iterable[ClientConnection], now: float) -> None:
        """Tells what is slow by now among the requests under way (rule 3)."""
        for connection in connections:
            exchange = connection.current
            if (
                exchange is not None
                and exchange.dispatched
                and exchange.picked is not None
                and now - exchange.start > exchange.picked.slow_after
                and not exchange.told & SLOW
                and not exchange.fallback_reason
            ):
                self._tell(exchange, SLOW, now)

    def _tell(self, exchange: Exchange, kind: int, now: float) -> None:
        arm = exchange.picked
        if arm is None or not arm.judged or exchange.overridden or exchange.method != b"POST":
            return
        kind &= ~exchange.told
        if not kind:
            return
        exchange.told |= kind
        if len(self._events) < MAX_EVENTS:
            key = exchange.sticky_key()
            told_key = fingerprint(exchange.route.name, key) if key else 0
            self._events.append(BadEvent(arm.key, kind, told_key, now - exchange.start))
        self._soon()
