"""A real worker on real sockets, and both ends of the wire in the test's own hands.

Rules:
1. The worker runs as in production (uvicorn, uvloop, its own `run`), on a loop in a thread of its own; only control is
   missing: `Router.serve` puts models in force directly.
2. `Client` and `Wire` are blocking sockets with deadlines: a test reads as a transcript of what either end says.
3. Bytes are checked strictly: what cannot be parsed, or comes behind an answer, fails the test.
4. After each test nothing may be under way: `Router.settle` waits for that, and for no longer than its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop

from router.core.outcome import ArmBatch, BadEvent
from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, Target
from router.core.split import lay_out
from router.core.wire import SnapshotUpdate
from router.dataplane.limits import Limits
from router.dataplane.worker import Worker, WorkerConfig
from tests.support.stub_upstream import Request, StubUpstream
from tests.support.wait import eventually

T = TypeVar("T")

DEADLINE = 5.0
HOST = b"router.test"


# -- snapshots


def endpoint(server: Wire | StubUpstream | Endpoint, **changes: Any) -> Endpoint:
    """Where `server` listens, as a snapshot has it."""
    if isinstance(server, Endpoint):
        return server
    facts: dict[str, Any] = {"network": server.network, "address": "127.0.0.1", "port": server.port}
    if server.network == "unix":
        facts = {"network": "unix", "address": str(server.path)}
    else:
        facts["authority"] = f"127.0.0.1:{server.port}"
    if server.network == "tls":
        facts["server_name"] = "localhost"
    return Endpoint(**{**facts, **changes})


def target(
    version: str, *servers: Wire | StubUpstream | Endpoint, weight: int = 10_000, state: str = "ready", **more: Any
) -> Target:
    """One version; `weight` in hundredths of a percent, declared and effective."""
    facts: dict[str, Any] = {"upstream_model": "fraud", "digest": f"digest-{version}", **more}
    return Target(
        version,
        state,  # type: ignore[arg-type]  # tests pass literals
        weight,
        weight,
        tuple(endpoint(server) for server in servers),
        **facts,
    )


def model(
    stable: Target, *canaries: Target, name: str = "fraud", regions: tuple[str, ...] = ("default",), **options: Any
) -> ModelRoute:
    """One model; stable's weight is what the canaries leave."""
    rest = 10_000 - sum(canary.weight for canary in canaries)
    first = Target(
        stable.version, stable.state, rest, rest, stable.endpoints, stable.digest, stable.upstream_model, stable.headers
    )
    slots = lay_out(0, [(index, canary.weight) for index, canary in enumerate(canaries, 1)])
    routes = {region: RegionRoute(region, (first, *canaries), 0, slots) for region in regions}
    return ModelRoute(name, "digest", routes, **options)


# -- messages


def post(body: bytes = b"{}", *lines: bytes, path: bytes = b"/models/fraud/invocations", length: bool = True) -> bytes:
    """A whole POST."""
    framing = (b"content-length: %d" % len(body),) if length else ()
    return request(b"POST", path, *lines, *framing) + body


def request(method: bytes, path: bytes, *lines: bytes, version: bytes = b"1.1", host: bytes | None = HOST) -> bytes:
    """A head."""
    host_line = (b"host: " + host,) if host is not None else ()
    return b"\r\n".join((method + b" " + path + b" HTTP/" + version, *host_line, *lines, b"", b""))


def answer(body: bytes = b"ok", *lines: bytes, status: bytes = b"200 OK", length: bool = True) -> bytes:
    """A whole response."""
    framing = (b"content-length: %d" % len(body),) if length else ()
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, *framing, b"", b"")) + body


def chunked(*pieces: bytes) -> bytes:
    """A whole chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Response:
    """What a client got. `headers` with lower-case names, in order; `pieces` are the chunks of a chunked body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    pieces: tuple[bytes, ...] = ()
    head: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of header `name`, which must not come twice."""
        found = self.all(name)
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        """The values of every header `name`."""
        return [value for key, value in self.headers if key == name]


class ClosedError(AssertionError):
    """The peer closed its end before a message was complete."""


class Stream:
    """A blocking socket that reads messages, each within a deadline in seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(DEADLINE)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Sends all of `data`."""
        self.sock.sendall(data)

    def stuff(self, limit: int, patience: float = 0.3) -> int:
        """Sends until the peer takes no more for `patience` seconds, at most `limit` bytes; how many were taken."""
        sent = 0
        self.sock.settimeout(patience)
        with contextlib.suppress(TimeoutError):
            while sent < limit:
                sent += self.sock.send(b"x" * min(65536, limit - sent))
        self.sock.settimeout(DEADLINE)
        return sent

    def close(self) -> None:
        """Closes in an orderly way."""
        self.sock.close()

    def reset(self) -> None:
        """Breaks the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def more(self) -> bool:
        """Reads what comes next into the buffer; false at the end."""
        data = self.sock.recv(262_144)
        self.buffer += data
        return bool(data)

    def line(self) -> bytes:
        """One line without its end."""
        return self.until(b"\r\n")

    def until(self, mark: bytes) -> bytes:
        """What comes before `mark`."""
        while mark not in self.buffer:
            if not self.more():
                raise ClosedError(f"closed while {mark!r} was awaited, after {self.buffer[:200]!r}")
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def exactly(self, size: int) -> bytes:
        """`size` bytes."""
        parts, have = [self.buffer], len(self.buffer)
        while have < size:
            data = self.sock.recv(262_144)
            if not data:
                raise ClosedError(f"closed {size - have} bytes before the end of {size}")
            parts.append(data)
            have += len(data)
        joined = b"".join(parts)
        self.buffer = joined[size:]
        return joined[:size]

    def chunk(self) -> bytes:
        """One chunk; the last one is empty and must have no trailers."""
        size = int(self.line(), 16)
        piece = self.exactly(size)
        assert self.line() == b"", "a chunk is longer than it says, or trailers follow"
        return piece

    def to_end(self) -> bytes:
        """All that comes until the peer closes in an orderly way."""
        while self.more():
            continue
        data, self.buffer = self.buffer, b""
        return data

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long; only for what must not happen."""
        if self.buffer:
            return False
        self.sock.settimeout(seconds)
        try:
            self.more()
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(DEADLINE)
        return False

    def ended(self) -> bool:
        """Waits for the end; true where it is orderly and nothing came before it, false for a reset."""
        try:
            data = self.to_end()
        except ConnectionResetError:
            return False
        assert data == b"", f"there was more to read: {data[:200]!r}"
        return True

    def gone(self, within: float = DEADLINE) -> None:
        """Waits until the peer has closed or broken the connection, whatever was still in it."""
        self.sock.settimeout(within)
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(262_144):
                continue


def headers_of(lines: list[bytes]) -> tuple[tuple[str, str], ...]:
    """Header lines, names in lower case."""
    pairs = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon, f"not a header line: {line!r}"
        assert name.strip() == name != b"", f"not a header name: {name!r}"
        pairs.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
    return tuple(pairs)


class Client(Stream):
    """The client's end of a connection to the router."""

    def head(self) -> Response:
        """The next response's head."""
        raw = self.until(b"\r\n\r\n")
        first, *lines = raw.split(b"\r\n")
        version, _, rest = first.partition(b" ")
        assert version == b"HTTP/1.1", f"not a status line: {first!r}"
        return Response(int(rest[:3]), headers_of(lines), head=raw)

    def response(self, method: str = "POST") -> Response:
        """The next whole response."""
        head = self.head()
        if method == "HEAD" or head.status in (204, 304) or head.status < 200:
            return head
        length = head.header("content-length")
        coding = head.header("transfer-encoding")
        if coding is not None:
            assert coding == "chunked"
            assert length is None
            pieces = []
            while piece := self.chunk():
                pieces.append(piece)
            return Response(head.status, head.headers, b"".join(pieces), tuple(pieces), head.head)
        body = self.exactly(int(length)) if length is not None else self.to_end()
        return Response(head.status, head.headers, body, head=head.head)

    def ask(self, data: bytes, method: str = "POST") -> Response:
        """Sends one request and reads its response."""
        self.send(data)
        return self.response(method)


class Served(Stream):
    """The server's end of a connection that the router opened."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        super().__init__(sock)
        self.number = number

    def request_head(self) -> Request:
        """The next request's head."""
        head = self.until(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, path, version = first.decode("latin-1").split(" ")
        assert version == "HTTP/1.1"
        return Request(self.number, method, path, headers_of(lines), b"", head + b"\r\n\r\n")

    def request(self) -> Request:
        """The next whole request."""
        head = self.request_head()
        if head.header("transfer-encoding") is not None:
            assert head.all_headers("transfer-encoding") == ["chunked"]
            assert head.header("content-length") is None
            pieces = []
            while piece := self.chunk():
                pieces.append(piece)
            body = b"".join(pieces)
        else:
            assert len(head.all_headers("content-length")) <= 1
            body = self.exactly(int(head.header("content-length") or 0))
        return Request(head.connection, head.method, head.target, head.headers, body, head.head)


class Wire:
    """A listening socket that plays a model server by hand: the test accepts, reads and answers itself."""

    def __init__(
        self, network: str = "tcp", *, path: Path | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self.network = network
        self.path = path
        self.context = context
        self.port = 0
        if network == "unix":
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
        else:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(64)
        self.listener.settimeout(DEADLINE)
        self.served: list[Served] = []

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        for served in self.served:
            served.close()

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return len(self.served)

    def accept(self) -> Served:
        """The next connection that the router opens."""
        sock, _ = self.listener.accept()
        if self.context is not None:
            sock.settimeout(DEADLINE)
            sock = self.context.wrap_socket(sock, server_side=True)
        self.served.append(Served(sock, len(self.served) + 1))
        return self.served[-1]

    def get(self) -> tuple[Served, Request]:
        """The next whole request, on whichever connection it comes."""
        served = self._readable()
        return served, served.request()

    def idle(self, seconds: float = 0.15) -> bool:
        """Whether no further connection comes for so long; only for what must not happen."""
        self.listener.settimeout(seconds)
        try:
            self.accept()
        except TimeoutError:
            return True
        finally:
            self.listener.settimeout(DEADLINE)
        return False

    def _readable(self) -> Served:
        end = time.monotonic() + DEADLINE
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            for served in self.served:
                if served.buffer:
                    return served
                if served.sock.fileno() >= 0:
                    selector.register(served.sock, selectors.EVENT_READ, served)
            while time.monotonic() < end:
                for key, _ in selector.select(0.5):
                    if key.data is None:
                        return self.accept()
                    if not key.data.more():
                        selector.unregister(key.data.sock)
                        key.data.close()
                        continue
                    served = key.data
                    assert isinstance(served, Served)
                    return served
        raise AssertionError(f"no request within {DEADLINE} s")


# -- the worker


@dataclass
class Router:
    """A worker in a thread. `errors` are the exceptions that nobody caught on its loop."""

    run: Path
    regions: tuple[str, ...] = ("default",)
    limits: Limits = field(default_factory=Limits)
    trusted: tuple[str, ...] = ()
    grace: float = 5.0
    identity: str = "router under test"

    def __post_init__(self) -> None:
        self.errors: list[dict[str, Any]] = []
        self.clients: list[Client] = []
        self.sequence = 0
        self._sockets = {region: socket.create_server(("127.0.0.1", 0), backlog=512) for region in self.regions}
        self.ports = {region: sock.getsockname()[1] for region, sock in self._sockets.items()}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="worker under test", daemon=True)

    def __enter__(self) -> Router:
        self._collector = gc.get_threshold()
        self._thread.start()
        assert self._ready.wait(DEADLINE), "the worker did not start"
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.worker.stop)
            self._thread.join(self.grace + DEADLINE)
        assert not self._thread.is_alive(), "the worker did not stop"
        # The worker tunes the collector of what it takes for its own process.
        gc.unfreeze()
        gc.set_threshold(*self._collector)

    def _main(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        config = WorkerConfig(self.run, 0, self._sockets, self.trusted, self.grace, self.identity, self.limits)
        self.worker = Worker(config, self.loop)
        await self.worker.apply(SnapshotUpdate(1, None, {}))
        self._ready.set()
        await self.worker.run()

    def on_loop(self, do: Callable[[], T]) -> T:
        """The result of `do`, called on the worker's loop."""

        async def call() -> T:
            return do()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(DEADLINE)

    def serve(self, *models: ModelRoute) -> None:
        """Puts a whole snapshot in force."""
        self.sequence += 1
        update = SnapshotUpdate(self.sequence, None, {route.model: route for route in models})
        asyncio.run_coroutine_threadsafe(self.worker.apply(update), self.loop).result(DEADLINE)

    def connect(self, region: str = "default", *, receive_buffer: int = 0) -> Client:
        """A client's connection; `receive_buffer` (bytes) makes one that takes little at a time."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", self.ports[region]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clients.append(Client(sock))
        return self.clients[-1]

    def ask(self, data: bytes, method: str = "POST") -> Response:
        """One request on a connection of its own, and its response."""
        client = self.connect()
        try:
            return client.ask(data, method)
        finally:
            client.close()

    def outcomes(self) -> list[ArmBatch]:
        """What was recorded since the last call."""

        def take() -> list[ArmBatch]:
            worker = self.worker
            records, worker.records = worker.records, []
            worker.recorder.fold(records)
            return list(worker.recorder.take())

        return self.on_loop(take)

    def bad(self) -> list[BadEvent]:
        """The bad events since the last call."""
        return self.on_loop(lambda: list(self.worker.witness.take()))

    def counts(self) -> dict[str, dict[tuple[int, str], int]]:
        """By version: `(code, result)` → how many requests since the last call."""
        totals: dict[str, dict[tuple[int, str], int]] = {}
        for batch in self.outcomes():
            of_version = totals.setdefault(batch.arm.version, {})
            for code, result, _, n in batch.counts:
                of_version[code, result] = of_version.get((code, result), 0) + n
        return totals

    def under_way(self) -> dict[str, object]:
        """What is under way, by what; empty when nothing is."""

        def look() -> dict[str, object]:
            worker = self.worker
            found: dict[str, object] = {
                "client connections": len(worker.connections),
                "bytes held": worker.held,
                "requests": worker.in_flight,
                "deadlines": len(worker.wheel),
            }
            for pool in list(worker.pools._pools.values()):
                found[f"in flight at port {pool.endpoint.port}"] = pool.in_flight
                found[f"busy or dead among the idle at {pool.endpoint.port}"] = sum(
                    connection.exchange is not None or connection.transport.is_closing() for connection in pool.idle
                )
            for key, load in worker.compiler.loads.items():
                found[f"load of {key}"] = load.requests
            return {name: value for name, value in found.items() if value}

        return self.on_loop(look)

    def settle(self) -> None:
        """Ends the test's connections and asserts that nothing stays behind (rule 4)."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        eventually(lambda: not self.under_way(), DEADLINE, f"nothing under way, but: {self.under_way()}")
        self.serve()
        self.on_loop(lambda: self.worker.pools.prune(set()))
        self.on_loop(lambda: self.worker.compiler.forget_all_but(()))
        self.outcomes()
        errors, self.errors = self.errors, []
        assert not errors, f"errors on the worker's loop: {errors}"


@contextlib.contextmanager
def settled(router: Router) -> Iterator[Router]:
    """`router` for the length of one test (rule 4)."""
    yield router
    router.settle()
