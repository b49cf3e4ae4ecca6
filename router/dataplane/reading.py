"""Bytes of a client to requests: what the parser calls.

Rules:
1. What is not plainly one HTTP/1.x request is refused with 400 and the connection closed: no Host, an empty one or
   several on HTTP/1.1, any transfer coding but `chunked`, a coding on HTTP/1.0, CONNECT, obs-fold, control characters.
2. What comes in one read is parsed piece by piece: no read is so large that limits are looked at too late.
3. Limits have answers: 431 for the head, 414 for the URL, 400 for chunks that carry more overhead than data.
4. Forwarding headers are made fresh, unless the peer is a trusted proxy.
5. An upgrade is never granted; the body behind one is read all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from router.dataplane import headers
from router.dataplane.headers import (
    CONNECTION,
    COOKIE,
    ENCODING,
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    FORWARDING,
    HOST,
    LENGTH,
    NOTED,
    ONCE,
    OVERRIDE,
    PLAIN,
    REQUEST_ID,
    STICKY,
    UPGRADE,
    VIA,
)
from router.dataplane.problems import Problem, Problems
from router.dataplane.repeat import Forms
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping

    from router.dataplane.exchange import Exchange
    from router.dataplane.worker import Worker

NEVER_FORWARDED = frozenset({b"CONNECT", b"TRACE"})
"""CONNECT asks for a tunnel, and TRACE would show a client the credentials added for the model server."""

PIECE = 8 * 1024
"""So much of a read is parsed before limits are looked at (rule 2)."""

MAX_OVERHEAD = 16 * 1024
"""So much of a chunked body may be something else than data, beside eight times its data."""


class RequestReader:
    """The half of a client's connection that the parser calls. An idle one holds little."""

    __slots__ = (
        "arriving", "between", "body", "current", "deaf", "fault", "forms", "forwarded", "fresh", "head_bytes",
        "head_deadline", "host", "known", "length", "lines", "noted", "noted_bytes", "on_body", "on_message_begin",
        "parser", "peer", "read_size", "resuming", "seen", "special", "trusted", "unparsed", "url", "waiting",
        "wire_bytes", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.known = worker.names.known

        # The requests of this connection: the one under way, the one of which more may come, those that wait.
        self.current: Exchange | None = None
        self.arriving: Exchange | None = None
        self.waiting: deque[Exchange] | None = None
        self.fresh = False
        self.deaf = False
        self.unparsed = b""

        # The head that is coming, and the body.
        self.url = b""
        self.lines: list[bytes] = []
        self.seen = 0
        self.special: dict[int | bytes, bytes] | None = None
        self.length = 0
        self.fault: Problem | None = None
        self.noted = self.noted_bytes = 0
        self.head_bytes = 0
        self.head_deadline = NEVER
        self.read_size = 0
        self.wire_bytes = 0
        self.body: list[bytes] = []
        self.resuming = False

        # Whose requests these are, and what their heads have in common.
        self.forms = Forms()
        self.host = b""
        self.peer = b""
        self.trusted = False
        self.forwarded = b""

        # The parser appends in C: a Python method for each piece would cost more than the look afterwards.
        self.on_body = self.body.append
        # Empty while the parser is within a message. It clears this itself, in C.
        self.between = [True]
        self.on_message_begin = self.between.clear
        self.parser = HttpRequestParser(self)

    # -- what the connection adds

    def new_exchange(self) -> Exchange:
        """A request that begins to exist."""
        raise NotImplementedError

    def take_turn(self, exchange: Exchange) -> None:
        """A request's head is here: it is the next one, or waits behind others."""
        raise NotImplementedError

    def refuse_head(self, problem: Problem) -> None:
        """Answers a request whose head cannot be taken."""
        raise NotImplementedError

    # -- feeding the parser

    def feed(self, data: bytes) -> None:
        """Parses what was read, or as much of it as may wait for its turn; the rest is `unparsed`."""
        self.read_size = len(data)
        if len(data) <= PIECE:
            self._feed(data)
            return
        limit = self.worker.limits.pipelined
        for start in range(0, len(data), PIECE):
            self._feed(data[start : start + PIECE])
            if self.deaf:
                return
            if self.waiting is not None and len(self.waiting) >= limit:
                self.unparsed = data[start + PIECE :]
                return

    def _feed(self, piece: bytes) -> None:
        arriving = self.arriving
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._after_upgrade(piece[upgrade.args[0] :])
        except HttpParserError:
            self._malformed()
            return
        if arriving is not None and arriving is self.arriving and arriving.seen & ENCODING:
            self._bound_overhead(arriving, len(piece))

    def _bound_overhead(self, exchange: Exchange, size: int) -> None:
        """The body's pieces are counted here until they are taken; then it is `body_bytes` that has them."""
        self.wire_bytes += size
        data = exchange.body_bytes + sum(map(len, self.body))
        if self.wire_bytes > MAX_OVERHEAD + 8 * data and not exchange.finished:
            self._fail_arriving(exchange, "The chunks carry more overhead than data.")

    def _malformed(self) -> None:
        """The parser gave up."""
        arriving = self.arriving
        if arriving is not None:
            self._fail_arriving(arriving)
            return
        last = self.waiting[-1] if self.waiting else self.current
        if last is not None and not last.keep_alive:
            self.deaf = True  # bytes behind the last request of a connection: nobody's
        elif not self.fresh and len(self.url) > self.worker.limits.url:
            self.refuse_head(Problems.URI_TOO_LONG)
        else:
            self.refuse_head(Problems.MALFORMED)

    def _fail_arriving(self, exchange: Exchange, detail: str = "") -> None:
        """The body of a request whose head is here cannot be read."""
        self.deaf = True
        if exchange is self.current and not self.fresh:
            exchange.refuse(Problems.MALFORMED, detail)
        else:
            exchange.fault = Problems.MALFORMED
            exchange.keep_alive = False

    def _after_upgrade(self, rest: bytes) -> None:
        """The parser stopped because the request asks for an upgrade (rule 5).

        It has skipped the body, too; a fresh parser, told of the same framing, reads what is there.
        """
        while True:
            self.parser = HttpRequestParser(self)
            if self.arriving is not None:
                self._resume(self.arriving)
            if not rest or self.deaf:
                return
            try:
                self.parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                continue
            except HttpParserError:
                self._malformed()
            return

    def _resume(self, exchange: Exchange) -> None:
        """Tells a fresh parser how the body of `exchange` is framed."""
        framing = b"transfer-encoding: chunked" if exchange.seen & ENCODING else b"content-length: %d" % exchange.length
        self.resuming = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        self.resuming = False
        exchange.keep_alive &= b"close" not in exchange.special.get(CONNECTION, b"").lower()

    # -- what the parser calls

    def on_url(self, piece: bytes) -> None:
        """The request target, perhaps in pieces."""
        if not self.resuming:
            self.url = self.url + piece if self.url else piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after a chunked body these are trailers, which end here."""
        try:
            kind = self.known[name]
        except KeyError:
            kind = self.worker.names.learn(name)
        if kind == PLAIN:
            self.lines.append(b"%b: %b\r\n" % (name, value))
        elif kind == LENGTH and not self.seen & LENGTH and self.arriving is None:
            self.seen |= LENGTH
            self.length = int(value)
        elif kind == HOST and not self.seen & HOST:
            self.seen |= HOST
            if value != self.host or not value:
                self._new_host(value)
        elif kind == STICKY and self.special is None and self.arriving is None:
            self.special = {name.lower(): value.strip()}
            self.lines.append(b"%b: %b\r\n" % (name, value))
        elif self.arriving is None:
            self._note(kind, name, value)

    def _note(self, kind: int, name: bytes, value: bytes) -> None:
        """A header that means something to the router."""
        value = value.strip()
        self.noted += 1
        if self.noted > self.worker.limits.head_lines:
            self.fault = Problems.HEAD_TOO_LARGE
            return
        if self.seen & kind & ONCE:
            self.fault = Problems.MALFORMED
        self.seen |= kind
        if self.special is None:
            self.special = {}
        special = self.special
        if kind == STICKY:
            special.setdefault(name.lower(), value)
        elif kind in special:
            special[kind] = special[kind] + (b"; " if kind == COOKIE else b", ") + value
        else:
            special[kind] = value
        if kind in (STICKY, COOKIE, OVERRIDE):
            self.lines.append(b"%b: %b\r\n" % (name, value))
            return
        self.noted_bytes += len(name) + len(value)
        if kind == ENCODING and value.lower() != b"chunked":
            self.fault = Problems.MALFORMED

    def on_headers_complete(self) -> None:
        """The head is complete: this is a request, or at least the end of one."""
        if self.resuming:
            return
        parser = self.parser
        version_11 = parser.get_http_version() == "1.1"
        method = parser.get_method()
        seen = self.seen
        if not seen & HOST and version_11:
            self.fault = self.fault or Problems.MALFORMED
        exchange = self.new_exchange()
        exchange.method = method
        exchange.target = self.url
        exchange.lines = self.lines
        exchange.seen = seen
        if not version_11 or method in NEVER_FORWARDED:
            exchange.version_11 = version_11
            self._check_rare(parser.get_http_version(), method, seen)
        exchange.forwarded = self.forwarded
        if seen & LENGTH:
            exchange.length = self.length
        trailers = 0
        worker = self.worker
        exchange.request_id = worker.new_id()
        if self.special is not None:
            exchange.special = self.special
            self.special = None
            if seen & ENCODING:
                trailers = HOST  # so that a Host among the trailers means nothing
            if seen & NOTED:
                self.note_sender(exchange)
        # No limit on bytes can be passed by a head that came with one small read.
        if self.head_bytes or self.read_size > worker.small_read or len(self.lines) > worker.limits.head_lines:
            self._check_limits()
        if self.noted:
            self.noted = self.noted_bytes = 0
        if self.fault is not None:
            exchange.fault = self.fault
            exchange.keep_alive = False
            self.fault = None
        self.arriving = exchange
        self.lines = []
        self.url = b""
        self.seen = trailers
        self.length = self.head_bytes = 0
        if self.head_deadline != NEVER:
            self.head_deadline = NEVER
        self.take_turn(exchange)

    def on_message_complete(self) -> None:
        """The request is complete. Only here does the parser know whether the connection stays."""
        exchange = self.arriving
        if exchange is None:
            return
        if exchange.seen & UPGRADE and exchange.has_body and self.parser.should_upgrade():
            return  # the parser skips the body of an upgrade; see `_after_upgrade`
        body = self.body
        if body:
            exchange.rest = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
        exchange.whole = True
        if not (exchange.version_11 and self.parser.should_keep_alive()) or self.worker.draining:
            exchange.keep_alive = False
        if exchange.seen & ENCODING:
            self.lines.clear()  # trailers
            self.special = None
            self.seen = 0
        self.arriving = None
        self.wire_bytes = 0
        self.between.append(True)

    # -- the steps of the above

    def note_sender(self, exchange: Exchange) -> None:
        """What a request says of where it comes from, and its own id."""
        seen, special = exchange.seen, exchange.special
        if seen & FORWARDING and (self.trusted or seen & VIA):
            exchange.forwarded = self.forward_for(special, self.host)
        if seen & REQUEST_ID and headers.is_sane_id(special[REQUEST_ID]):
            exchange.request_id = special[REQUEST_ID]

    def _new_host(self, value: bytes) -> None:
        value = value.strip()
        if value and headers.is_host(value):
            self._take_host(value)
        else:
            self.fault = Problems.MALFORMED

    def _take_host(self, host: bytes) -> None:
        self.host = host
        self.forwarded = self.worker.forwarding(self.peer, host)
        self.forms.form = None  # it was learned from requests for another host

    def forward_for(self, special: Mapping[int | bytes, bytes], host: bytes) -> bytes:
        """The forwarding lines of a request for `host` that came through proxies (rule 5)."""
        via = special.get(VIA, b"")
        if not self.trusted:
            return self.worker.forwarding(self.peer, host, via=via)
        https = special.get(FORWARDED_PROTO, b"").lower() == b"https"
        return self.worker.forwarding(
            self.peer,
            host,
            proto=b"https" if https else b"http",
            asked_for=special.get(FORWARDED_HOST, b""),
            before=special.get(FORWARDED_FOR, b""),
            forwarded=special.get(FORWARDED, b""),
            via=via,
        )

    def _check_rare(self, version: str, method: bytes, seen: int) -> None:
        if version not in ("1.0", "1.1") or (version == "1.0" and seen & ENCODING) or method == b"CONNECT":
            self.fault = self.fault or Problems.MALFORMED
        elif method == b"TRACE":
            self.fault = self.fault or Problems.WRONG_METHOD
        if not seen & HOST:
            self._take_host(b"")

    def _check_limits(self) -> None:
        limits = self.worker.limits
        if len(self.url) > limits.url:
            self.fault = Problems.URI_TOO_LONG
        elif len(self.lines) > limits.head_lines or (
            self.head_bytes + self.read_size > limits.head
            and sum(map(len, self.lines)) + len(self.url) + self.noted_bytes > limits.head
        ):
            self.fault = Problems.HEAD_TOO_LARGE

    def take_body(self) -> bytes:
        """What has come of the body since the last call."""
        body = self.body
        if not body:
            return b""
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return data
