"""A worker without sockets: a client's bytes go in, the bytes for servers and for the client come out.

Rules:
1. Everything runs in the caller's thread and turn: no loop turns, so nothing depends on time or on how reads fall.
2. A server answers with `answer` as soon as its connection was handed a whole request, checked by h11, which is
   stricter than the router's own parser and knows nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import h11

from router.core.snapshot import Endpoint, ModelRoute
from router.core.wire import SnapshotUpdate
from router.dataplane.protocol import ClientConnection
from router.dataplane.upstream import UpstreamConnection
from router.dataplane.worker import Worker, WorkerConfig
from tests.support.dataplane import model, target

SERVERS = 40
"""So many connections to servers are open beforehand: opening one takes a loop that turns."""


class FakeListener:
    """A listening socket, as far as a worker asks one."""

    def getsockname(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", 8080)


class FakeTransport:
    """Keeps what is written. `closed` and `aborted` say how it ended; `paused` whether it is read from."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.aborted = self.paused = self.ended = False

    def write(self, data: bytes) -> None:
        """Keeps `data`, unless the connection has ended."""
        assert isinstance(data, bytes)
        if not self.closed:
            self.written += data

    def get_extra_info(self, name: str) -> Any:
        """Both ends of the connection; there is no socket."""
        return None if name == "socket" else ("127.0.0.1", 8080)

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        """There is no buffer."""
        return 0

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self.closed

    def can_write_eof(self) -> bool:
        """As a TCP connection can."""
        return True

    def write_eof(self) -> None:
        """The router will send no more."""
        self.ended = True

    def pause_reading(self) -> None:
        """The router wants no more for now."""
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        """The router takes more."""
        self.paused = False

    def close(self) -> None:
        """Ends in an orderly way."""
        self.closed = True

    def abort(self) -> None:
        """Ends at once."""
        self.closed = self.aborted = True


@dataclass(frozen=True)
class Seen:
    """A request that a server was sent. `headers` with lower-case names."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass
class FakeServer:
    """One connection to a server, and the independent parser that reads what is sent there."""

    connection: UpstreamConnection
    transport: FakeTransport
    parser: h11.Connection = field(default_factory=lambda: h11.Connection(h11.SERVER))
    read: int = 0
    head: h11.Request | None = None
    body: bytes = b""

    def requests(self) -> Iterator[Seen]:
        """The whole requests that came since the last call.

        Raises:
            h11.RemoteProtocolError: what came is no HTTP request.
        """
        data = self.transport.written[self.read :]
        self.read = len(self.transport.written)
        if data:
            self.parser.receive_data(data)
        while True:
            event = self.parser.next_event()
            if isinstance(event, h11.Request):
                self.head, self.body = event, b""
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert self.head is not None
                assert not event.headers, "trailers were passed on"
                yield Seen(self.head.method, self.head.target, tuple(self.head.headers), self.body)
                self._answered()
            else:
                assert event in (h11.NEED_DATA, h11.PAUSED), f"unexpected at a server: {event}"
                return

    def _answered(self) -> None:
        self.parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        self.parser.send(h11.EndOfMessage())
        self.parser.start_next_cycle()


class Playground:
    """One client's connection to a worker that has one model with one version."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, answer: bytes, route: ModelRoute | None = None) -> None:
        config = WorkerConfig(Path("unused"), 0, {"default": cast("Any", FakeListener())})
        self.worker = Worker(config, loop)
        self.answer = answer
        endpoint = Endpoint("tcp", "127.0.0.1", 9, authority="server")
        update = SnapshotUpdate(1, None, {"fraud": route or model(target("v3", endpoint))})
        run_through(self.worker.apply(update))
        self.pool = self.worker.pools.get(endpoint)
        self.servers = [self._server() for _ in range(SERVERS)]
        self.seen: list[Seen] = []
        self.transport = FakeTransport()
        self.client = ClientConnection(self.worker)
        self.client.connection_made(cast("Any", self.transport))

    def _server(self) -> FakeServer:
        connection, transport = UpstreamConnection(self.pool), FakeTransport()
        connection.connection_made(cast("Any", transport))
        connection.idle_since = float("inf")
        self.pool.idle.append(connection)
        return FakeServer(connection, transport)

    def send(self, data: bytes) -> None:
        """The client sends `data`, which arrives in one piece; servers answer."""
        if self.transport.closed or not data:
            return
        self.client.data_received(data)
        self._serve()

    def _serve(self) -> None:
        """Servers answer for as long as there is something to answer."""
        busy = True
        while busy:
            busy = False
            for server in self.servers:
                for seen in server.requests():
                    self.seen.append(seen)
                    busy = True
                    if not server.transport.closed:
                        server.connection.data_received(self.answer)
                        server.connection.idle_since = float("inf")

    def end(self) -> None:
        """The client goes away; nothing may be under way afterwards, and no server waits for the rest of anything."""
        self.client.connection_lost(None)
        assert self.pool.in_flight == 0
        assert self.worker.held == 0
        assert len(self.worker.wheel) == 0
        assert not self.worker.connections
        assert all(not load.requests for load in self.worker.compiler.loads.values())
        for server in self.servers:
            assert server.transport.closed or (
                server.connection in self.pool.idle and server.connection.exchange is None
            )

    def responses(self) -> list[tuple[int, bytes]]:
        """What the client got: status and body of each response, checked by h11; interim ones are left out.

        Raises:
            h11.RemoteProtocolError: what came is no sequence of responses.
        """
        parser = h11.Connection(h11.CLIENT)
        parser.receive_data(self.transport.written)
        got: list[tuple[int, bytes]] = []
        status, body = 0, b""
        while parser.trailing_data[0] or status:
            if parser.our_state is h11.IDLE:
                parser.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
                parser.send(h11.EndOfMessage())
            event = parser.next_event()
            if isinstance(event, h11.Response):
                status, body = event.status_code, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                got.append((status, body))
                status = 0
                if parser.our_state is h11.MUST_CLOSE:
                    assert not parser.trailing_data[0], "more came behind the last response"
                    break
                parser.start_next_cycle()
            elif not isinstance(event, h11.InformationalResponse):
                assert event is not h11.NEED_DATA, "a response is not complete"
        return got


def run_through(coroutine: Coroutine[None, None, None]) -> None:
    """Runs what now and then lets others run, without a loop: there are no others."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        return
