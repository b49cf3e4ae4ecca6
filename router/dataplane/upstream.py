"""Connections to model servers.

Rules:
1. A connection carries one exchange at a time and goes back to its pool only after a response that ended cleanly.
2. Bytes that nobody asked for end a connection: they must never become the answer to the next request.
3. What a model server sends is parsed strictly; framing and hop-by-hop headers end here.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

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
from router.dataplane.repeat import learn

if TYPE_CHECKING:
    from router.dataplane.exchange import Exchange
    from router.dataplane.pool import Pool

MAX_IDLE = 256
MAX_HEAD = 128 * 1024
_JSON = re.compile(rb"^content-type:[^\r]*json", re.IGNORECASE | re.MULTILINE)
_NAMES = headers.response_names()
_KNOWN = _NAMES.known


class UpstreamConnection(asyncio.Protocol):
    """One connection to one endpoint, and the response that is being read from it."""

    __slots__ = (
        "__weakref__", "_due", "body", "complete", "exchange", "head_bytes", "head_done", "head_lines", "idle_since",
        "keep_alive",
        "length", "lines", "nominated", "on_body", "on_message_begin", "parser", "pool", "seen", "status", "transport",
        "used",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self.head_bytes = 0
        self.status = 0
        self.seen = 0
        self.head_done = False
        self.head_lines = 0
        self.complete = False
        self.keep_alive = False
        self.used = False
        self.length = b""
        self.nominated: frozenset[bytes] = frozenset()
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        # The parser calls these two in C: a Python method for each would cost more than all the rest here.
        self.on_body = self.body.append
        # One message is due; a further one finds nothing to pop, and the error ends the parsing (rule 2).
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
            self.close()  # rule 2
            return
        begins = bool(self._due)
        if begins:
            forms = self.pool.forms
            form = forms.form
            # What answers HEAD has no body, whatever its head says.
            if form is not None and exchange.whole and exchange.method != b"HEAD":
                found = form.read(data)
                if found is not None:
                    # A whole response of a known form: the parser has seen nothing of it.
                    self.lines, _, body = found
                    self.body.append(body)
                    self.status = form.status
                    self.head_done = self.complete = self.keep_alive = True
                    exchange.response_arrived(self)
                    return
        try:
            self.parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.complete:
                exchange.attempt_failed(self, Problems.GARBLED)
                return
            self.keep_alive = False  # rule 2
        if self.head_done:
            if begins and self.complete and self.keep_alive:
                self._learn(data)
            exchange.response_arrived(self)
        else:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD:
                exchange.attempt_failed(self, Problems.GARBLED)

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
