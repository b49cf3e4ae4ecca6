"""What is known of one request on its way.

Rules:
1. All of it has slots, and the slots are filled at the start: reading a default from the class takes three times as
   long, and a dictionary of so many attributes more than twice as long to make.
2. Nothing happens here: what becomes of a request is in `exchange.py`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from router.dataplane.headers import ENCODING
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from router.dataplane.problems import Problem
    from router.dataplane.protocol import ClientConnection
    from router.dataplane.routes import LiveArm, Match, Peer, Route
    from router.dataplane.upstream import UpstreamConnection

NOTHING: Mapping[int | bytes, bytes] = MappingProxyType({})
"""What a request says that has no header with a meaning."""


class ExchangeState:
    """One request, as far as it is known."""

    __slots__ = (
        "arm", "attempt_deadline", "attempts", "body", "body_bytes", "chunked_out", "client", "code", "connecting",
        "connection", "continue_awaited", "deadline", "dispatched", "failed_peer", "fallback_reason", "fault",
        "finished", "forwarded", "held", "keep_alive", "length", "lines", "match", "method", "overridden", "peer",
        "pending", "picked", "relaying", "request_id", "rest", "retries", "route", "seen", "sent_at", "special",
        "start", "streaming", "suspicious", "taken", "target", "timeout_line", "told", "upstream_time", "version_11",
        "whole",
    )  # fmt: skip

    # Set by whoever comes to know them.
    method: bytes
    target: bytes
    lines: list[bytes]
    request_id: bytes
    forwarded: bytes
    route: Route
    match: Match
    arm: LiveArm
    peer: Peer

    def __init__(self, client: ClientConnection) -> None:
        self.client = client

        # What the client's connection found.
        self.seen = 0
        self.special: Mapping[int | bytes, bytes] = NOTHING
        self.fault: Problem | None = None
        self.version_11 = True
        self.length = 0
        self.rest = b""
        self.whole = False
        self.keep_alive = True

        # Where it is to go.
        self.picked: LiveArm | None = None
        self.overridden = False
        self.dispatched = False
        self.continue_awaited = False
        self.start = 0.0
        self.deadline = NEVER
        self.timeout_line = b""

        # Its body.
        self.body = b""
        self.body_bytes = 0
        self.held = 0
        self.pending: list[bytes] | None = None
        self.taken = False
        self.streaming = False

        # The attempt under way, and those before.
        self.connection: UpstreamConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.attempts = 0
        self.attempt_deadline = NEVER
        self.sent_at = 0.0
        self.upstream_time = 0.0
        self.failed_peer: Peer | None = None
        self.retries = 0
        self.fallback_reason = ""
        self.told = 0

        # Its answer.
        self.code = 0
        self.relaying = False
        self.chunked_out = False
        self.suspicious: bytes | None = None
        self.finished = False

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return self.length > 0 or bool(self.seen & ENCODING)
