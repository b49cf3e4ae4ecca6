"""HTTP/1.1 on the server's Unix socket: bytes to whole requests, answers to bytes.

Rules:
1. Only the router connects, which has made sure of well-formed requests and bounded bodies; what does not parse all the
   same is 400, and the connection ends.
2. Requests of one connection are answered in their order; while one is under way, no more is read.
3. Who went away is not worked for: a request still in line when its client leaves is marked as gone.
4. A prediction that takes longer than a minute, or than `x-request-timeout` says, is answered 504, as MLflow does.
5. At the end of the server, idle connections close at once, others with their answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from router.serving import answers
from router.serving.answers import Answer
from router.serving.line import SINGLE, Job
from router.serving.request import Request
from router.serving.service import Service

PREDICTION_TIMEOUT = 60.0
KEEP_ALIVE = 75.0
_LAST_CALL = 5.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BROKEN = answers.refusal(400, "BAD_REQUEST", "This is no HTTP/1.1 request.")
_LINES = {status: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Crowd(Protocol):
    """Whoever knows the open connections."""

    def joined(self, connection: Connection) -> None:
        """A connection begins."""
        ...

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        ...


class Connection(asyncio.Protocol):
    """One connection, of those that `crowd` holds."""

    transport: asyncio.Transport

    def __init__(self, service: Service, crowd: Crowd, *, timeout: float = PREDICTION_TIMEOUT) -> None:
        self._service = service
        self._crowd = crowd
        self._timeout = timeout
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        # The parser appends in C; it looks its callbacks up when it is made.
        self.on_body = self._body.append
        self._parser = HttpRequestParser(self)
        self._arrived: deque[tuple[Request, bool]] = deque()
        self._job: Job | None = None
        self._under_way = 0
        self._busy = False
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self._crowd.joined(self)
        self._expect(KEEP_ALIVE, self.shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._crowd.left(self)
        self._ending = True
        self._arrived.clear()
        self._forget()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._ending = True
            if not self._busy:
                self._write(_BROKEN, head=False)
                self.transport.close()

    def shutdown(self) -> None:
        """The server ends, or nothing came for long (rule 5)."""
        self._ending = True
        if not self._busy:
            self.transport.close()

    def retire(self) -> None:
        """The process leaves, and hands over what still comes: the next answer is the connection's last."""
        self._ending = True
        if not self._busy:
            self._expect(_LAST_CALL, self.shutdown)

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._busy:
            self.transport.write(_CONTINUE)

    def on_message_complete(self) -> None:
        """See httptools."""
        path = self._url.partition(b"?")[0].decode("latin-1")
        request = Request(self._parser.get_method(), path, self._headers, b"".join(self._body))
        self._arrived.append((request, self._parser.should_keep_alive()))
        self._url, self._headers = b"", {}
        self._body.clear()
        if self._busy:
            self.transport.pause_reading()
        else:
            self._next()

    def _next(self) -> None:
        request, keep = self._arrived.popleft()
        self._busy = True
        self._under_way += 1
        number = self._under_way
        self._ending = self._ending or not keep
        limit = min(self._timeout, _asked(request.headers.get(b"x-request-timeout", b"")))
        self._expect(limit, lambda: self._answer(number, request, answers.TOO_SLOW))
        job = self._job = self._service.handle(request, lambda answer: self._answer(number, request, answer))
        if job is not None:
            job.request, job.deadline = request, asyncio.get_running_loop().time() + limit
            job.single = SINGLE in request.headers

    def _answer(self, number: int, request: Request, answer: Answer) -> None:
        """The answer to request `number`, or None to a request that was answered already."""
        if number != self._under_way or not self._busy or self.transport.is_closing():
            return
        self._forget()
        self._busy = False
        self._write(answer, head=request.method == b"HEAD")
        if self._ending:
            self.transport.close()
        elif self._arrived:
            # Behind what is ready now, so that a connection full of requests does not keep others waiting.
            self._busy = True
            asyncio.get_running_loop().call_soon(self._after)
        else:
            self._expect(KEEP_ALIVE, self.shutdown)

    def _after(self) -> None:
        self._busy = False
        if self._arrived:
            self._next()
            self.transport.resume_reading()

    def _write(self, answer: Answer, *, head: bool) -> None:
        further = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        close = "connection: close\r\n" if self._ending else ""
        lines = f"{_LINES[HTTPStatus(answer.status)]}content-type: {answer.media_type}\r\n{further}{close}"
        start = f"{lines}content-length: {len(answer.body)}\r\n\r\n".encode("latin-1")
        self.transport.write(start if head else start + answer.body)

    def _expect(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _forget(self) -> None:
        if self._job is not None:
            self._job.gone = True
            self._job = None


def _asked(timeout: bytes) -> float:
    """Seconds in what the router writes: a number of milliseconds."""
    number = timeout.removesuffix(b"ms")
    return int(number) / 1000 if number.isdigit() and number != timeout else PREDICTION_TIMEOUT
