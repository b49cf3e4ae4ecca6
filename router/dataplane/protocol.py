"""The client's side of the data port: a connection, and its requests one at a time.

Rules:
1. Requests of one connection are answered in their order; while one is under way only a bounded number of
   pipelined ones is read, and the rest waits unread.
2. What comes in time has an answer, what does not has one too: 408, or an end.
3. A connection that closes with unread input lingers, so that the answer is not lost to a reset.
4. A client that goes away is noticed within a second, also while nothing is read from it.
5. A whole request that is like the one before it is read by its form; whatever else comes is the parser's
   (`reading.py`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, cast

from router.dataplane.exchange import Exchange
from router.dataplane.headers import CONNECTION, NOTED
from router.dataplane.problems import Problem, Problems
from router.dataplane.reading import RequestReader
from router.dataplane.repeat import TARGET, Form, Reading, learn
from router.dataplane.streams import UPLOAD
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    from router.dataplane.routes import Table
    from router.dataplane.worker import Worker

STAYING = frozenset({b"keep-alive", b"Keep-Alive"})
"""Values of a Connection header that change nothing."""

# Why a client is not read from, beside UPLOAD: pipelined requests wait; it does not read its responses.
WAITING = 1
UNREAD = 4

LOOK_SECONDS = 0.5
"""How often a client that is not read from is looked at (rule 4)."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""

TCP_INFO = getattr(socket, "TCP_INFO", None)
ESTABLISHED = 1


class ClientConnection(RequestReader, asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "blocked_since", "body_deadline", "closed", "due", "held_back", "idle_since", "lingering_until",
        "look_due", "table", "transport", "turning",
    )  # fmt: skip

    transport: asyncio.Transport
    table: Table

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.held_back = 0
        self.turning = False
        self.closed = False
        self.idle_since = 0.0
        self.due = NEVER
        self.look_due = NEVER
        self.body_deadline = NEVER
        self.blocked_since = NEVER
        self.lingering_until = NEVER

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
        self.feed(data)
        current = self.current
        if current is None:
            self._head_incomplete(len(data))
        elif self.fresh:
            self.fresh = False
            if alone and self.between:
                self._learn(current, data)
            current.begin()
        elif current.pending is not None and not current.taken:
            current.body_arrived()
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
        self.unparsed = b""
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
            self.note_sender(exchange)
        if worker.draining:
            exchange.keep_alive = False
        self.current = exchange
        exchange.begin()
        return True

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

    # -- what the reader calls

    def new_exchange(self) -> Exchange:
        """A request that begins to exist."""
        return Exchange(self)

    def take_turn(self, exchange: Exchange) -> None:
        """A request's head is here: it is the next one, or waits behind others."""
        if self.current is None:
            self.current = exchange
            self.fresh = True
            return
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append(exchange)
        self.pause_reading(WAITING)

    def refuse_head(self, problem: Problem) -> None:
        """Answers a request whose head cannot be taken."""
        exchange = Exchange(self)
        exchange.method, exchange.target, exchange.lines, exchange.seen = b"", self.url, [], 0
        exchange.request_id = self.worker.new_id()
        exchange.fault = problem
        exchange.keep_alive = False
        self.deaf = True
        self.arriving = None
        self.take_turn(exchange)
        if self.fresh and self.current is exchange:
            self.fresh = False
            exchange.begin()

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
            self.refuse_head(Problems.URI_TOO_LONG)
        elif self.head_bytes > limits.head or len(self.lines) > limits.head_lines:
            self.refuse_head(Problems.HEAD_TOO_LARGE)

    # -- what an exchange calls

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
            self.look_due = monotonic() + LOOK_SECONDS
            self.watch(self.look_due)
        self.held_back |= reason

    def resume_reading(self, reason: int) -> None:
        """One of the reasons has gone; takes input again if it was the last."""
        if self.held_back & reason:
            self.held_back &= ~reason
            if not self.held_back:
                self.look_due = NEVER
                if not self.transport.is_closing():
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
        """The turns of those that wait, one after the other for as long as they are answered at once."""
        if self.turning:
            return
        self.turning = True
        try:
            while self.current is None and self.waiting is not None and self.blocked_since == NEVER:
                if self.waiting:
                    self._begin(self.waiting.popleft())
                else:
                    self._read_on()
        finally:
            self.turning = False

    def _begin(self, exchange: Exchange) -> None:
        self.current = exchange
        exchange.begin()
        if self.current is exchange and not exchange.whole:
            self._read_on()

    def _read_on(self) -> None:
        """Nobody waits any more: takes what was read and not parsed yet, and what comes."""
        self.waiting = None
        self.resume_reading(WAITING)
        data, self.unparsed = self.unparsed, b""
        if data:
            self.data_received(data)

    def _close(self, *, unread: bool) -> None:
        self.deaf = True
        self.waiting = None
        self.unparsed = b""
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
        unread = min(self.blocked_since + limits.unread, self.look_due)
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
        if self.look_due <= now:
            self._look(now)
            if self.next_deadline() > now:
                return
        current = self.current
        if self.lingering_until <= now:
            self.transport.abort()
        elif self.blocked_since + self.worker.limits.unread <= now:
            self.abort()  # an orderly end would leave the kernel holding what this client does not read
        elif current is None:
            if self._head_due() <= now:
                self.refuse_head(Problems.REQUEST_TIMEOUT)
            else:
                self.transport.close()
        elif not current.whole and self.body_deadline <= now:
            current.refuse(Problems.REQUEST_TIMEOUT)
        else:
            current.expire(now)

    def _look(self, now: float) -> None:
        """Whether a client that is not read from is still there (rule 4): its end would be read last."""
        self.look_due = now + LOOK_SECONDS
        sock = self.transport.get_extra_info("socket")
        if sock is None or TCP_INFO is None or self.transport.is_closing():
            return
        if sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1)[0] != ESTABLISHED:
            self.transport.abort()
