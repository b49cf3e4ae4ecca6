"""Connections to model servers.

Rules:
1. A connection carries one exchange at a time and goes back to its pool only after a response that ended cleanly.
2. It is kept idle for less time than servers keep theirs, so that a reused one is rarely dead: for half as long as
   the server was seen to keep one lately.
3. Bytes that nobody asked for end a connection: they must never become the answer to the next request.
4. What a model server sends is parsed strictly; framing and hop-by-hop headers end here.
5. Opening a connection is the only step that needs a task; it is cancelled with the attempt that wanted it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from time import monotonic
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from router.core.congestion import BUSY, Congestion
from router.core.ejection import EndpointHealth
from router.core.snapshot import Endpoint
from router.dataplane import headers
from router.dataplane.headers import (
    CONNECTION,
    ENCODING,
    LENGTH,
    PLAIN,
    USUAL_CONNECTION,
    connection_names,
    without,
)
from router.dataplane.problems import Problems
from router.dataplane.repeat import Form, Forms, Reading, learn
from router.dataplane.trust import Trust

if TYPE_CHECKING:
    from router.dataplane.exchange import Exchange

KEEP_IDLE = 3.0
RECOVER_IDLE = 0.001
MAX_IDLE = 256
MAX_HEAD = 128 * 1024
_JSON = re.compile(rb"^content-type:[^\r]*json", re.IGNORECASE | re.MULTILINE)
_NAMES = headers.response_names()
_KNOWN = _NAMES.known


class UpstreamConnection(asyncio.Protocol):
    """One connection to one endpoint, and the response that is being read from it."""

    exchange: Exchange | None = None
    transport: asyncio.Transport
    idle_since = 0.0
    head_bytes = 0
    status = 0
    seen = 0
    head_done = False
    head_lines = 0
    complete = False
    keep_alive = False
    used = False
    length: bytes = b""
    nominated: frozenset[bytes] = frozenset()

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        # The parser calls these two in C: a Python method for each would cost more than all the rest here.
        self.on_body = self.body.append
        # One message is due; a further one finds nothing to pop, and the error ends the parsing (rule 3).
        self._due: list[bool] = [True]
        self.on_message_begin = self._due.pop
        self.parser = HttpResponseParser(self)

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Part of a response."""
        exchange = self.exchange
        if exchange is None:
            self.close()  # rule 3
            return
        begins = bool(self._due)
        if begins:
            forms = self.pool.forms
            form = forms.form
            # What answers HEAD has no body, whatever its head says.
            if form is not None and exchange.whole and exchange.method != b"HEAD":
                found = form.read(data)
                if found is not None:
                    self._repeats(form, found)
                    exchange.response_arrived(self)
                    return
        try:
            self.parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.complete:
                exchange.attempt_failed(self, Problems.GARBLED)
                return
            self.keep_alive = False  # rule 3
        if self.head_done:
            if begins and self.complete and self.keep_alive:
                self._learn(data)
            exchange.response_arrived(self)
        else:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD:
                exchange.attempt_failed(self, Problems.GARBLED)

    def _repeats(self, form: Form, found: Reading) -> None:
        """A whole response of a known form has come; the parser has seen nothing of it."""
        self.lines, _, body = found
        self.status = form.status
        self.seen = LENGTH
        self.head_lines = len(self.lines)
        self.body.append(body)
        self.head_done = self.complete = self.keep_alive = True

    def _learn(self, data: bytes) -> None:
        """The parser has read a whole response: the next ones may be like it."""
        forms = self.pool.forms
        if (
            not forms.worth_learning()
            or not self.body
            or self.head_bytes
            or self.seen & ENCODING
            or not self.length.isdigit()
        ):
            return
        length = int(self.length)
        form = learn(data[: len(data) - length], forms.form, _NAMES.kind_of, (self.lines, {}, length), request=False)
        if form is not None:
            form.status = self.status
        forms.form = form

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; a response that is framed by its end is complete now."""
        exchange = self.exchange
        self.pool.forget(self)
        if exchange is not None:
            if exc is None and self.head_done and not self.seen & (LENGTH | ENCODING):
                self.complete = True
                exchange.response_arrived(self)
            else:
                exchange.attempt_failed(self, Problems.BROKE)
        self.release_parts()

    def eof_received(self) -> None:
        """The server will send no more: an idle connection is not for reuse, even before it is closed."""
        if self.exchange is None:
            self.pool.forget(self)

    def pause_writing(self) -> None:
        """The server takes the upload more slowly than it comes."""
        if self.exchange is not None:
            self.exchange.upload_blocked()

    def resume_writing(self) -> None:
        """The server takes more of the upload."""
        if self.exchange is not None:
            self.exchange.upload_unblocked()

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after a chunked body these are trailers, dropped when the message is complete."""
        try:
            kind = _KNOWN[name]
        except KeyError:
            kind = _NAMES.learn(name)
        if kind == PLAIN:
            self.lines.append(b"%b: %b\r\n" % (name, value))
        elif kind == LENGTH:
            self.seen |= LENGTH
            self.length = value.strip()
        elif kind & (CONNECTION | ENCODING) and value not in USUAL_CONNECTION and not self.head_done:
            self._note(kind, value)

    def _note(self, kind: int, value: bytes) -> None:
        self.seen |= kind
        if kind == CONNECTION:
            self.nominated |= connection_names(value) or frozenset()
        elif value.strip().lower() != b"chunked":
            msg = "a transfer coding that cannot be undone here"
            raise ValueError(msg)

    def on_headers_complete(self) -> None:
        """The head is complete; an interim response (1xx) is not the answer."""
        status = self.parser.get_status_code()
        if status < 200:
            self.lines.clear()
            self.seen = 0
            self.nominated = frozenset()
            self._due.append(True)
            return
        self.status = status
        self.head_done = True
        if not self.seen & LENGTH:
            self.length = b""
        if self.nominated:
            self.lines[:] = without(self.lines, self.nominated)
        self.head_lines = len(self.lines)
        exchange = self.exchange
        if exchange is not None and exchange.method == b"HEAD" and self.length != b"0":
            # The parser would wait for a body that never comes; what is behind the head is nobody's.
            self.keep_alive = self.parser.should_keep_alive()
            self.parser = HttpResponseParser(self)
            self.complete = True

    def on_message_complete(self) -> None:
        """The response is complete. Only here does the parser know whether the connection stays."""
        if self.head_done:
            self.complete = True
            self.keep_alive = self.parser.should_keep_alive()
            if self.seen & ENCODING:
                del self.lines[self.head_lines :]

    # -- what an exchange calls

    def is_json(self) -> bool:
        """Whether the body is said to be JSON."""
        return _JSON.search(b"".join(self.lines)) is not None

    def take_body(self) -> bytes:
        """What has come of the body since the last call."""
        body = self.body
        if not body:
            return b""
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return data

    def release(self, now: float) -> None:
        """The exchange is over; keeps the connection if its response ended cleanly and nothing came behind it."""
        self.exchange = None
        pool = self.pool
        if self.complete and self.keep_alive and len(pool.idle) < MAX_IDLE:
            self.lines = []
            self.body.clear()
            self.head_done = self.complete = self.keep_alive = False
            self.status = self.seen = self.head_bytes = 0
            if self.nominated:
                self.nominated = frozenset()
            if not self._due:
                self._due.append(True)
            self.used = True
            self.idle_since = now
            if not self.transport.is_closing():
                pool.idle.append(self)
        else:
            self.close()

    def discard(self) -> None:
        """The attempt is over without a clean end: the connection cannot be used again."""
        self.exchange = None
        self.abort()

    def close(self) -> None:
        """Closes after what is written was sent."""
        self.transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self.transport.abort()

    def release_parts(self) -> None:
        """Breaks the cycles between a closed connection, its parser and its callbacks."""
        self.exchange = None
        del self.parser, self.on_body, self.on_message_begin


class Pool:
    """The connections to one endpoint, and how the endpoint has done."""

    def __init__(self, endpoint: Endpoint, pools: Pools) -> None:
        self.endpoint = endpoint
        self.idle: list[UpstreamConnection] = []
        self.in_flight = 0
        self.health = EndpointHealth()
        self.forms = Forms()
        self.limit = pools.in_flight_per_endpoint
        self.busy = min(BUSY, self.limit)
        """From so many requests under way on `is_full` has to be asked."""
        self.answers = 0
        self.took = 0.0
        self.keep_idle = KEEP_IDLE
        self._closes_early = False
        self._congestion = Congestion()
        self._pools = pools

    def is_full(self, now: float, left: float) -> bool:
        """Whether it should get no further request that can wait for `left` seconds."""
        return self.in_flight >= self.limit or not self._congestion.has_room(
            now, self.in_flight, self.answers, self.took, left
        )

    def take(self, now: float) -> UpstreamConnection | None:
        """An idle connection that is still good, the one used last first."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if now - connection.idle_since < self.keep_idle and not connection.transport.is_closing():
                return connection
            connection.close()
        return None

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has closed."""
        if connection in self.idle:
            self.idle.remove(connection)
            self.closed_idle(monotonic() - connection.idle_since)

    def closed_idle(self, age: float) -> None:
        """The server closed a connection that had been idle for `age` seconds (rule 2)."""
        self.keep_idle = min(self.keep_idle, age / 2)
        self._closes_early = True

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long, and learns: call it about once a second."""
        self._congestion.note(now, self.answers, self.took)
        if self._closes_early:
            self._closes_early = False
        elif self.keep_idle < KEEP_IDLE:
            # A server that was restarted closed them all once, whatever their age: that is forgotten within seconds.
            self.keep_idle = min(KEEP_IDLE, 2 * self.keep_idle + RECOVER_IDLE)
        self.close_idle(now - KEEP_IDLE)

    def close_idle(self, before: float = float("inf")) -> None:
        """Closes what is idle since a moment before `before`."""
        keep = [connection for connection in self.idle if connection.idle_since > before]
        if len(keep) < len(self.idle):
            old = set(self.idle) - set(keep)
            self.idle = keep
            for connection in old:
                connection.close()

    def connect(self, exchange: Exchange) -> asyncio.Task[None]:
        """Opens a connection and hands it to `exchange`, or tells it why there is none."""
        return self._pools.loop.create_task(self._connect(exchange))

    async def _connect(self, exchange: Exchange) -> None:
        made: list[UpstreamConnection] = []

        def factory() -> UpstreamConnection:
            made.append(UpstreamConnection(self))
            return made[0]

        try:
            await self._pools.open(self.endpoint, factory)
        except ssl.SSLError:
            exchange.connect_failed(Problems.TLS)
        except OSError:
            exchange.connect_failed(Problems.REFUSED)
        except asyncio.CancelledError:
            for connection in made:
                if hasattr(connection, "transport"):
                    connection.abort()
            raise
        else:
            if made[0].transport.is_closing():
                exchange.connect_failed(Problems.BROKE)
            else:
                exchange.connected(made[0])


class Pools:
    """All pools of a worker, by endpoint; two versions on one endpoint share its pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, in_flight_per_endpoint: int) -> None:
        self.loop = loop
        self.in_flight_per_endpoint = in_flight_per_endpoint
        self._pools: dict[tuple[str, str, int, str], Pool] = {}
        self._trust = Trust()

    def get(self, endpoint: Endpoint) -> Pool:
        """The pool of `endpoint`."""
        key = (endpoint.network, endpoint.address, endpoint.port, endpoint.server_name)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(endpoint, self)
            if endpoint.network == "tls":
                self._trust.begin()
        return pool

    async def open(self, endpoint: Endpoint, factory: type[asyncio.Protocol] | object) -> None:
        """Opens one connection.

        Raises:
            OSError: it cannot be opened; `ssl.SSLError` where the certificate does not hold.
        """
        make = cast("type[asyncio.Protocol]", factory)
        if endpoint.network == "unix":
            await self.loop.create_unix_connection(make, endpoint.address)
        elif endpoint.network == "tls":
            context = await self._trust.context()
            await self.loop.create_connection(
                make, endpoint.address, endpoint.port, ssl=context, server_hostname=endpoint.server_name
            )
        else:
            await self.loop.create_connection(make, endpoint.address, endpoint.port)

    def ejected(self, now: float) -> set[Pool]:
        """The endpoints that are left out now."""
        return {pool for pool in self._pools.values() if pool.health.ejected_until > now}

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long."""
        for pool in self._pools.values():
            pool.sweep(now)

    def prune(self, in_use: set[Pool]) -> bool:
        """Forgets the pools that neither a route nor a request uses; False where a request still holds one back."""
        pruned = True
        for key, pool in list(self._pools.items()):
            if pool in in_use:
                continue
            pool.close_idle()
            if pool.in_flight:
                pruned = False
            else:
                del self._pools[key]
        return pruned

    def close(self) -> None:
        """Closes every idle connection."""
        for pool in self._pools.values():
            pool.close_idle()
