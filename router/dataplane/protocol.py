"""The client's side of the data port: bytes to requests, one exchange at a time.

Rules:
1. What is not plainly one HTTP/1.x request is refused with 400 and the connection closed: no Host or several on
   HTTP/1.1, any transfer coding but `chunked`, a coding on HTTP/1.0, CONNECT, obs-fold, control characters.
2. Requests of one connection are answered in their order; while one is under way only a bounded number of
   pipelined ones is read.
3. Limits have answers: 431 for the head, 414 for the URL, 408 for what does not come in time.
4. A connection that closes with unread input lingers, so that the answer is not lost to a reset.
5. Forwarding headers are made fresh, unless the peer is a trusted proxy.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from router.dataplane import headers
from router.dataplane.exchange import Exchange
from router.dataplane.headers import (
    CONNECTION,
    COOKIE,
    ENCODING,
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    HOST,
    LENGTH,
    OVERRIDE,
    PLAIN,
    REQUEST_ID,
    STICKY,
    UPGRADE,
    VIA,
)
from router.dataplane.problems import Problem, Problems
from router.dataplane.repeat import TARGET, Form, Forms, Reading, learn
from router.dataplane.streams import UPLOAD
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.dataplane.routes import Table
    from router.dataplane.worker import Worker

ONCE = HOST | LENGTH | ENCODING
FORWARDING = FORWARDED_FOR | FORWARDED_PROTO | FORWARDED_HOST | FORWARDED | VIA
NOTED = FORWARDING | REQUEST_ID

STAYING = frozenset({b"keep-alive", b"Keep-Alive"})
"""Values of a Connection header that change nothing."""


# Why a client is not read from, beside UPLOAD: pipelined requests wait; it does not read its responses.
WAITING = 1
UNREAD = 4

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


NEVER_FORWARDED = frozenset({b"CONNECT", b"TRACE"})
"""CONNECT asks for a tunnel, and TRACE would show a client the credentials added for the model server."""


class ClientConnection(asyncio.Protocol):
    """One client's connection. The class holds the defaults: an idle connection holds little."""

    transport: asyncio.Transport
    table: Table

    current: Exchange | None = None
    arriving: Exchange | None = None
    waiting: deque[Exchange] | None = None
    fresh = False
    deaf = False
    resuming = False
    held_back = 0
    blocked_since = NEVER
    lingering_until = NEVER
    body_deadline = NEVER
    head_deadline = NEVER
    idle_since = 0.0
    due = NEVER
    closed = False

    url: bytes = b""
    seen = 0
    length = 0
    head_bytes = 0
    read_size = 0
    wire_bytes = 0
    fault: Problem | None = None
    special: dict[int | bytes, bytes] | None = None
    host: bytes = b""
    peer: bytes = b""
    trusted = False
    forwarded: bytes = b""
    noted = 0
    noted_bytes = 0

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.known = worker.names.known
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        # The parser appends in C: a Python method for each piece would cost more than the look afterwards.
        self.on_body = self.body.append
        # Empty while the parser is within a message. It clears this itself, in C.
        self.between = [True]
        self.on_message_begin = self.between.clear
        self.forms = Forms()
        self.parser = HttpRequestParser(self)

    # -- what asyncio and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.worker.connections.add(self)
        sockname = transport.get_extra_info("sockname")
        self.table = self.worker.table_of(sockname)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0].encode() if isinstance(peername, tuple) else b"unknown"
        self.trusted = self.worker.trusts(self.peer)
        self.idle_since = monotonic()
        self.transport.set_write_buffer_limits(high=self.worker.limits.write_buffer)
        self.watch(self.next_deadline())
        if self.worker.draining:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes of one request, of part of one, or of several."""
        if self.deaf:
            return
        forms, alone = self.forms, False
        if self.between:
            form = forms.form
            alone = self.current is None and self.waiting is None
            if form is not None and alone and form.kinds is self.worker.names.kinds:
                found = form.read(data)
                if found is not None and self._repeats(form, found, len(data)):
                    return
        self.read_size = len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            self._malformed()
        current = self.current
        if current is None:
            self._head_incomplete(len(data))
        elif self.fresh:
            self.fresh = False
            if alone and self.between:
                self._learn(current, data)
            current.begin()
        elif current.pending is not None and not current.taken:
            self._body_grew(current, len(data))
        elif self.waiting is None:
            self._head_incomplete(len(data))

    def eof_received(self) -> None:
        """The client will send no more: it is gone, as far as a proxy can tell."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client's connection is gone."""
        self.closed = self.deaf = True
        self.worker.connections.discard(self)
        self.worker.wheel.forget(self)
        current, self.current = self.current, None
        self.waiting = None
        if current is not None:
            current.client_gone()
        # These form cycles, and a closed connection should not wait for the garbage collector.
        del self.parser, self.on_body, self.on_message_begin

    def pause_writing(self) -> None:
        """The client takes the response more slowly than it comes, and shall not ask for more meanwhile."""
        self.blocked_since = monotonic()
        self.watch(self.next_deadline())
        self.pause_reading(UNREAD)
        if self.current is not None:
            self.current.download_blocked()

    def resume_writing(self) -> None:
        """The client takes the response again."""
        self.blocked_since = NEVER
        self.resume_reading(UNREAD)
        if self.current is not None:
            self.current.download_unblocked()
        elif self.waiting is not None:
            self._begin_next()

    def shutdown(self) -> None:
        """The worker drains: closes now if idle, else after what is under way."""
        if self.current is None:
            self.transport.close()
        else:
            self.current.keep_alive = False

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
            if value != self.host:
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
        exchange = Exchange(self)
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
                self._note_sender(exchange)
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
        if self.current is None:
            self.current = exchange
            self.fresh = True
        else:
            self._enqueue(exchange)

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

    # -- heads that repeat

    def _repeats(self, form: Form, found: Reading, size: int) -> bool:
        """A whole request of a known form has come, and begins; False where it is for the parser after all."""
        lines, special, body = found
        worker = self.worker
        if size - len(body) > worker.small_read:
            return False
        target = form.target
        if not target:
            target, _, version = special[TARGET].partition(b" ")
            if version != b"HTTP/1.1" or target not in self.table.exact:
                return False
        exchange = Exchange(self)
        exchange.method = form.method
        exchange.target = target
        exchange.lines = lines
        exchange.special = special
        exchange.rest = body
        exchange.length = len(body)
        exchange.seen = seen = form.seen
        exchange.whole = True
        exchange.forwarded = self.forwarded
        exchange.request_id = worker.new_id()
        if seen & NOTED:
            self._note_sender(exchange)
        if worker.draining:
            exchange.keep_alive = False
        self.current = exchange
        exchange.begin()
        return True

    def _note_sender(self, exchange: Exchange) -> None:
        """What a request says of where it comes from, and its own id."""
        seen, special = exchange.seen, exchange.special
        if seen & FORWARDING and (self.trusted or seen & VIA):
            exchange.forwarded = self.forward_for(special, self.host)
        if seen & REQUEST_ID and headers.is_sane_id(special[REQUEST_ID]):
            exchange.request_id = special[REQUEST_ID]

    def _learn(self, exchange: Exchange, data: bytes) -> None:
        """The parser has read a whole request: the next ones may be like it."""
        forms = self.forms
        if exchange.fault is not None or not exchange.keep_alive or not exchange.whole or not forms.worth_learning():
            return
        head = data[: len(data) - len(exchange.rest)]
        parsed = (exchange.lines, exchange.special, exchange.length)
        form = learn(head, forms.form, self.worker.names.kind_of, parsed, request=True)
        if form is not None:
            form.method = exchange.method
            form.target = b"" if 0 in form.varying else exchange.target
            form.kinds = self.worker.names.kinds
            form.seen = exchange.seen
            if exchange.special.get(CONNECTION, b"") in STAYING:
                form.seen &= ~CONNECTION
        forms.form = form

    # -- the steps of the above

    def _new_host(self, value: bytes) -> None:
        value = value.strip()
        if not headers.is_host(value):
            self.fault = Problems.MALFORMED
            return
        self.host = value
        self.forwarded = self.worker.forwarding(self.peer, value)

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
            self._new_host(b"")

    def _check_limits(self) -> None:
        limits = self.worker.limits
        if len(self.url) > limits.url:
            self.fault = Problems.URI_TOO_LONG
        elif len(self.lines) > limits.head_lines or (
            self.head_bytes + self.read_size > limits.head
            and sum(map(len, self.lines)) + len(self.url) + self.noted_bytes > limits.head
        ):
            self.fault = Problems.HEAD_TOO_LARGE

    def _enqueue(self, exchange: Exchange) -> None:
        if self.current is None:
            self.current = exchange
            self.fresh = True
            return
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(exchange)
        self.pause_reading(WAITING)
        if len(self.waiting) > self.worker.limits.pipelined:
            exchange.fault = Problems.OVERLOADED
            exchange.keep_alive = False
            self.deaf = True

    def _head_incomplete(self, size: int) -> None:
        """Part of a head came, or nothing but empty lines."""
        if self.closed or self.deaf:
            return
        limits = self.worker.limits
        self.head_bytes += size
        if self.head_deadline == NEVER:
            self.head_deadline = monotonic() + limits.head_time
            self.watch(self.head_deadline)
        if len(self.url) > limits.url:
            self._refuse_head(Problems.URI_TOO_LONG)
        elif self.head_bytes > limits.head or len(self.lines) > limits.head_lines:
            self._refuse_head(Problems.HEAD_TOO_LARGE)

    def _refuse_head(self, problem: Problem) -> None:
        """Answers a request whose head cannot be taken."""
        exchange = Exchange(self)
        exchange.method, exchange.target, exchange.lines, exchange.seen = b"", self.url, [], 0
        exchange.request_id = self.worker.new_id()
        exchange.fault = problem
        exchange.keep_alive = False
        self.deaf = True
        self.arriving = None
        self._enqueue(exchange)
        if self.fresh and self.current is exchange:
            self.fresh = False
            exchange.begin()

    def _malformed(self) -> None:
        """The parser gave up."""
        arriving = self.arriving
        if arriving is not None:
            self.deaf = True
            if arriving is self.current and not self.fresh:
                arriving.refuse(Problems.MALFORMED)
            else:
                arriving.fault = Problems.MALFORMED
                arriving.keep_alive = False
            return
        last = self.waiting[-1] if self.waiting else self.current
        if last is not None and not last.keep_alive:
            self.deaf = True  # bytes behind the last request of a connection: nobody's
            return
        if self.fresh:
            self.deaf = True
            self._refuse_head(Problems.MALFORMED)
            return
        self._refuse_head(Problems.URI_TOO_LONG if len(self.url) > self.worker.limits.url else Problems.MALFORMED)

    def _after_upgrade(self, rest: bytes) -> None:
        """The parser stopped because the request asks for an upgrade, which is never granted.

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
            except HttpParserError:
                self._malformed()
                return
            else:
                return

    def _resume(self, exchange: Exchange) -> None:
        """Tells a fresh parser how the body of `exchange` is framed."""
        framing = b"transfer-encoding: chunked" if exchange.seen & ENCODING else b"content-length: %d" % exchange.length
        self.resuming = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        self.resuming = False
        if b"close" in exchange.special.get(CONNECTION, b"").lower():
            exchange.keep_alive = False

    def _body_grew(self, current: Exchange, size: int) -> None:
        self.wire_bytes += size
        current.body_arrived()
        if (
            current.seen & ENCODING
            and self.arriving is current
            and not current.finished
            and self.wire_bytes > 16 * 1024 + 8 * current.body_bytes
        ):
            self.deaf = True
            current.refuse(Problems.MALFORMED, "The chunks carry more overhead than data.")

    # -- what an exchange calls

    def take_body(self) -> bytes:
        """What has come of the body since the last call."""
        body = self.body
        if not body:
            return b""
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return data

    def await_body(self) -> None:
        """More of the body has to come, and not too slowly."""
        self.body_deadline = monotonic() + self.worker.limits.body_idle
        self.watch(self.next_deadline())

    def watch(self, deadline: float) -> None:
        """Has `expire` called soon after `deadline`."""
        if self.due > deadline and not self.closed:
            self.worker.wheel.watch(self, deadline)

    def pause_reading(self, reason: int) -> None:
        """Leaves further input in the kernel, until no reason for that is left."""
        if not self.held_back and not self.transport.is_closing():
            self.transport.pause_reading()
        self.held_back |= reason

    def resume_reading(self, reason: int) -> None:
        """One of the reasons has gone; takes input again if it was the last."""
        if self.held_back & reason:
            self.held_back &= ~reason
            if not self.held_back and not self.transport.is_closing():
                self.transport.resume_reading()

    def abort(self) -> None:
        """Breaks the connection, so that the client sees that its response is not complete.

        An orderly close could be taken for the end of a response that has no length.
        """
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def exchange_done(self, exchange: Exchange, now: float) -> None:
        """The exchange has ended and its response is written."""
        self.current = None
        self.idle_since = now
        if self.body_deadline != NEVER:
            self.body_deadline = NEVER
        if not exchange.keep_alive:
            self._close(unread=not exchange.whole or self.held_back != 0)
        elif self.waiting is not None:
            if self.blocked_since == NEVER:
                self._begin_next()
        elif exchange.streaming:
            self.resume_reading(UPLOAD)

    def _begin_next(self) -> None:
        """The turn of the next pipelined request, if there is one."""
        if not self.waiting:
            self.waiting = None
            self.resume_reading(WAITING)
            return
        self.current = current = self.waiting.popleft()
        if not current.whole:
            self.waiting = None
            self.resume_reading(WAITING)
        current.begin()

    def _close(self, *, unread: bool) -> None:
        self.deaf = True
        self.waiting = None
        if self.transport.is_closing():
            return
        if unread and self.transport.can_write_eof():
            # A close with unread input resets the connection and may take the answer with it (rule 4).
            self.lingering_until = monotonic() + self.worker.limits.linger
            self.transport.write_eof()
            self.resume_reading(self.held_back)
            self.watch(self.lingering_until)
        else:
            self.transport.close()

    # -- what the wheel calls

    def next_deadline(self) -> float:
        """When `expire` has to be called."""
        if self.closed:
            return NEVER
        limits = self.worker.limits
        unread = self.blocked_since + limits.unread
        current = self.current
        if self.lingering_until != NEVER:
            return self.lingering_until
        if current is None:
            head_due = self._head_due()
            return min(self.idle_since + limits.keep_alive if head_due == NEVER else head_due, unread)
        if current.whole:
            return min(current.next_deadline(), unread)
        return min(current.next_deadline(), self.body_deadline, unread)

    def _head_due(self) -> float:
        """When the head of which a part is here has to be complete; a part may have come with a request before it."""
        if self.head_deadline == NEVER and (self.url or self.lines):
            return self.idle_since + self.worker.limits.head_time
        return self.head_deadline

    def expire(self, now: float) -> None:
        """A deadline has passed."""
        current = self.current
        if self.lingering_until <= now:
            self.transport.abort()
        elif self.blocked_since + self.worker.limits.unread <= now:
            self.abort()  # an orderly end would leave the kernel holding what this client does not read
        elif current is None:
            if self._head_due() <= now:
                self._refuse_head(Problems.REQUEST_TIMEOUT)
            else:
                self.transport.close()
        elif not current.whole and self.body_deadline <= now:
            current.refuse(Problems.REQUEST_TIMEOUT)
        else:
            current.expire(now)
