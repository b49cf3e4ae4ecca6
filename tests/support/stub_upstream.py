"""A model server whose every answer the test decides: a real HTTP/1.1 server on a real socket.

Rules:
1. It runs on an event loop in a thread of its own, so that synchronous and asynchronous tests use it alike.
2. `answer` is what requests get from now on: an `Answer`, or a function from the request to one.
3. Everything that arrived is kept in `requests`, raw, in the order of arrival; `predictions` are the POSTs among them.
4. It stays on its address: `refuse()` stops listening there, `listen()` begins again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import trustme

T = TypeVar("T")

JSON = (("content-type", "application/json"),)


@dataclass(frozen=True)
class Answer:
    """What a request gets.

    `chunks` (sent chunked) replaces `body`; `delay` seconds pass before the head, `pause` between chunks; `hold` waits
    for `release()`; `cut` closes the connection after so many bytes of the body; `early` answers without reading the
    request's body; `drop` closes without an answer; `close` ends the connection afterwards; `raw` is sent as it is.
    """

    status: int = 200
    body: bytes = b'{"predictions": [1]}'
    headers: tuple[tuple[str, str], ...] = JSON
    chunks: tuple[bytes, ...] | None = None
    delay: float = 0.0
    pause: float = 0.0
    hold: bool = False
    cut: int | None = None
    early: bool = False
    drop: bool = False
    close: bool = False
    raw: bytes | None = None

    def head(self) -> bytes:
        """The status line and headers, up to and with the empty line."""
        framing = (
            ("transfer-encoding", "chunked") if self.chunks is not None else ("content-length", str(len(self.body)))
        )
        lines = [f"HTTP/1.1 {self.status} X", *(f"{name}: {value}" for name, value in (*self.headers, framing))]
        if self.close:
            lines.append("connection: close")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What arrived: `head` raw, names of `headers` as sent; `connection` counts up from 1."""

    connection: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    head: bytes

    def header(self, name: str) -> str | None:
        """The value of the first header `name`, in whatever case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all_headers(self, name: str) -> list[str]:
        """The values of every header `name`."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class StubUpstream:
    """A context manager; inside, `url`, `port` or `path` say where it listens."""

    def __init__(self, network: Literal["tcp", "tls", "unix"] = "tcp", *, path: Path | None = None) -> None:
        self.network = network
        self.path = path
        self.answer: Answer | Callable[[Request], Answer] = Answer()
        self.requests: list[Request] = []
        self.connections = 0
        self.open_connections = 0
        self.gone_clients = 0
        self.port = 0
        self.ca = trustme.CA() if network == "tls" else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stub upstream", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()

    def __enter__(self) -> StubUpstream:
        self._thread.start()
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Its address as a URL; for TLS by name, as the certificate has it."""
        if self.network == "unix":
            return f"unix:{self.path}"
        return f"https://localhost:{self.port}" if self.network == "tls" else f"http://127.0.0.1:{self.port}"

    @property
    def predictions(self) -> list[Request]:
        """The POSTs so far: probes are none."""
        return [request for request in self.requests if request.method == "POST"]

    def listen(self) -> None:
        """Listens, on the same address as before if there was one."""
        self._call(self._listen())

    def refuse(self) -> None:
        """Stops listening and closes every connection: whoever connects is refused."""
        self._call(self._stop())

    def close_connections(self) -> None:
        """Closes every connection, and goes on listening."""
        self._call(self._close_connections())

    def release(self) -> None:
        """Lets every held answer go, now and later ones too until `hold_again`."""
        self._loop.call_soon_threadsafe(self._released.set)

    def hold_again(self) -> None:
        """Answers with `hold` wait again."""
        self._loop.call_soon_threadsafe(self._released.clear)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        if self.network == "unix":
            self._server = await asyncio.start_unix_server(self._serve, str(self.path))
            return
        # asyncio turns Nagle off only where the protocol is named; with it each answer would wait for 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listener, ssl=self._tls())

    def _tls(self) -> ssl.SSLContext | None:
        if self.ca is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        return context

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._close_connections()

    async def _close_connections(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        await self._stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(self.connections, reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self.open_connections -= 1
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            request = _parsed(number, head)
            early = self._answer_to(request) if not callable(self.answer) and self.answer.early else None
            if early is None:
                if request.header("expect") == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request = _parsed(number, head, await _body(request, reader))
            self.requests.append(request)
            answer = early or self._answer_to(request)
            if not await self._reply(answer, request, reader, writer) or early:
                return

    def _answer_to(self, request: Request) -> Answer:
        return self.answer(request) if callable(self.answer) else self.answer

    async def _reply(
        self, answer: Answer, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Sends `answer`; tells whether the connection goes on."""
        if (answer.hold or answer.delay) and not await self._waited(answer, reader):
            self.gone_clients += 1
            return False
        if answer.drop:
            writer.transport.abort()
            return False
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return not answer.close
        writer.write(answer.head())
        if request.method != "HEAD" and answer.status not in (204, 304):
            await self._send_body(answer, writer)
        await writer.drain()
        if answer.cut is not None:
            # What was written must arrive before the connection breaks.
            writer.close()
            return False
        return not answer.close

    async def _send_body(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        if answer.chunks is None:
            writer.write(answer.body[: answer.cut])
            return
        for chunk in answer.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(answer.pause)
        if answer.cut is None:
            writer.write(b"0\r\n\r\n")

    async def _waited(self, answer: Answer, reader: asyncio.StreamReader) -> bool:
        """Waits as `answer` says; false where the client went away meanwhile."""
        waiting = asyncio.ensure_future(self._released.wait() if answer.hold else asyncio.sleep(answer.delay))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        stayed = waiting.done()
        for task in (waiting, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task
        return stayed


def _parsed(connection: int, head: bytes, body: bytes = b"") -> Request:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Request(connection, method, target, headers, body, head)


async def _body(request: Request, reader: asyncio.StreamReader) -> bytes:
    if request.header("transfer-encoding") == "chunked":
        return await _chunked(reader)
    return await reader.readexactly(int(request.header("content-length") or 0))


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while await reader.readline() != b"\r\n":
        continue
    return body
