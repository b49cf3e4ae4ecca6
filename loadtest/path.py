"""The request path alone, in one process on fake sockets, against a bare forwarder of the same shape.

Rules:
1. The bare forwarder does what every forwarder has to, and nothing else: it parses both messages with the router's
   parser, ends hop-by-hop headers and framing, makes a head each way, keeps connections, and writes twice. Whatever
   the router costs more is what its features cost.
2. Every request has another sticky key and another body; with many models each goes to another one.
3. Short slices of both alternate, in CPU time of this thread, and the quickest of each count: what else the machine
   does only ever adds, and some slices are spared.
4. The number of calls in a request is exact, whatever the machine does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from time import thread_time
from types import FrameType
from typing import Any, cast

from httptools import HttpRequestParser, HttpResponseParser

from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, Target
from router.core.split import lay_out
from router.core.wire import SnapshotUpdate
from router.dataplane.protocol import ClientConnection
from router.dataplane.upstream import UpstreamConnection
from router.dataplane.worker import Worker, WorkerConfig, tune_gc

DIFFERENT = 997
REQUESTS = [
    b"POST /models/%b/invocations HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    b"x-customer-id: c-%07d\r\nContent-Length: 500\r\n\r\n%b"
    % (b"%b", number * 7919, b'{"row": %d}' % number + b"x" * (500 - len(b'{"row": %d}' % number)))
    for number in range(DIFFERENT)
]
"""Each has another sticky key and another body."""

RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nDate: Mon, 23 Nov 2026 20:22:57 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n" + b"y" * 100
)
CALLS_OF_THE_SLICE = 7
"""What measuring a slice calls itself."""

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"content-length"})


class FakeSocket:
    """A listening socket, as far as a worker asks one."""

    def getsockname(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", 8080)


class FakeTransport:
    """Takes writes and counts them."""

    def __init__(self) -> None:
        self.written = b""
        self.writes = 0

    def write(self, data: bytes) -> None:
        """Keeps the last write."""
        self.written = data
        self.writes += 1

    def get_extra_info(self, name: str) -> tuple[str, int]:
        """Both ends of the connection."""
        return ("127.0.0.1", 8080)

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer."""

    def is_closing(self) -> bool:
        """It never closes."""
        return False


class BareUpstream:
    """Parses a response and passes it on."""

    client: BareClient

    def __init__(self, pool: list[BareUpstream]) -> None:
        self.pool = pool
        self.transport = FakeTransport()
        self.status = 0
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        self.on_body = self.body.append
        self.parser = HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header: a hop's own ends here."""
        if name.lower() not in HOP_BY_HOP:
            self.lines.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self.status = self.parser.get_status_code()

    def on_message_complete(self) -> None:
        """The response is whole."""
        body = b"".join(self.body)
        head = b"HTTP/1.1 %d OK\r\n%bcontent-length: %d\r\n\r\n" % (self.status, b"".join(self.lines), len(body))
        self.lines.clear()
        self.body.clear()
        if self.parser.should_keep_alive():
            self.pool.append(self)
        self.client.transport.write(head + body)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response."""
        self.parser.feed_data(data)


class BareClient:
    """Parses a request and passes it on to the one server there is, over a connection that nobody uses."""

    def __init__(self, pool: list[BareUpstream]) -> None:
        self.pool = pool
        self.transport = FakeTransport()
        self.url = b""
        self.keep_alive = False
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        self.on_body = self.body.append
        self.parser = HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        """The target."""
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header: a hop's own ends here."""
        if name.lower() not in HOP_BY_HOP:
            self.lines.append(b"%b: %b\r\n" % (name, value))

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.keep_alive = self.parser.should_keep_alive()
        body = b"".join(self.body)
        head = b"%b %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (
            self.parser.get_method(),
            self.url,
            b"".join(self.lines),
            len(body),
        )
        self.lines.clear()
        self.body.clear()
        server = self.pool.pop()
        server.client = self
        server.transport.write(head + body)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self.parser.feed_data(data)


def snapshot(models: int) -> SnapshotUpdate:
    """`models` models of four versions, 90/10/0/0, with every feature on."""
    endpoint = Endpoint("tcp", "127.0.0.1", 9, authority="127.0.0.1:9")

    def model(name: str) -> ModelRoute:
        targets = (
            Target("v3", "ready", 9000, 9000, (endpoint,), digest="a", upstream_model=name),
            Target("v4", "ready", 1000, 1000, (endpoint,), digest="b", upstream_model=name),
            *(Target(f"v{n}", "ready", 0, 0, (endpoint,), digest=str(n), upstream_model=name) for n in (5, 6)),
        )
        region = RegionRoute("default", targets, 0, lay_out(0, [(1, 1000)]))
        return ModelRoute(name, "d", {"default": region}, sticky_header="x-customer-id", idempotent=True, fallback=True)

    names = ["fraud", *(f"model-{number}" for number in range(models - 1))]
    return SnapshotUpdate(1, None, {name: model(name) for name in names})


class Bench:
    """One router connection and one bare connection, each with its upstream; requests go to all models in turn."""

    def __init__(self, worker: Worker, models: list[bytes]) -> None:
        self.worker = worker
        self.requests = [request % models[number % len(models)] for number, request in enumerate(REQUESTS)]
        self.client = ClientConnection(worker)
        self.client_transport = FakeTransport()
        self.client.connection_made(cast("Any", self.client_transport))
        route = worker.tables["default"].get("fraud")
        if route is None:
            raise RuntimeError("the worker has no model to route to")
        pool = route.stable.peers[0].pool
        self.upstream = UpstreamConnection(pool)
        self.upstream.connection_made(cast("Any", FakeTransport()))
        self.upstream.idle_since = float("inf")
        pool.idle.append(self.upstream)
        servers: list[BareUpstream] = []
        self.bare_upstream = BareUpstream(servers)
        servers.append(self.bare_upstream)
        self.bare = BareClient(servers)
        self._to_router = cycle(self.requests)
        self._to_bare = cycle(self.requests)

    def router_slice(self, requests: int) -> float:
        """CPU seconds for `requests` through the router, folding of records included."""
        client, upstream, worker = self.client, self.upstream, self.worker
        start = thread_time()
        for request in islice(self._to_router, requests):
            client.data_received(request)
            upstream.data_received(RESPONSE)
        worker.recorder.fold(worker.records)
        worker.records.clear()
        return thread_time() - start

    def bare_slice(self, requests: int) -> float:
        """CPU seconds for `requests` through the bare forwarder."""
        client, upstream = self.bare, self.bare_upstream
        start = thread_time()
        for request in islice(self._to_bare, requests):
            client.data_received(request)
            upstream.data_received(RESPONSE)
        return thread_time() - start

    def router_calls(self) -> int:
        """How many functions one request through the router calls, in Python and in C."""
        calls = 0

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            self.router_slice(1)
        finally:
            sys.setprofile(None)
        return calls - CALLS_OF_THE_SLICE


@dataclass(frozen=True)
class Cost:
    """What a request costs: microseconds of CPU through both, how many times one is the other, and calls."""

    models: int
    router_us: float
    bare_us: float
    ratio: float
    calls: int


async def measure(models: int, pairs: int = 41, requests: int = 2000) -> Cost:
    """What a request costs with so many models (rule 3)."""
    config = WorkerConfig(Path("unused"), 0, {"default": cast("Any", FakeSocket())})
    worker = Worker(config, asyncio.get_running_loop())
    await worker.apply(snapshot(models))
    bench = Bench(worker, [name.encode() for name in worker.tables["default"].names()])
    tune_gc()
    bench.router_slice(len(bench.requests))
    bench.bare_slice(len(bench.requests))
    calls = bench.router_calls()
    router, bare = [], []
    for _ in range(pairs):
        router.append(bench.router_slice(requests))
        bare.append(bench.bare_slice(requests))
    if bench.client_transport.writes != pairs * requests + len(bench.requests) + 1:
        raise RuntimeError("the router did not answer every request")
    ours, theirs = (min(slices) / requests * 1e6 for slices in (router, bare))
    return Cost(models, ours, theirs, ours / theirs, calls)


def main() -> None:
    """Prints one JSON line per table size."""
    for models in [int(argument) for argument in sys.argv[1:]] or [1, 1000]:
        print(json.dumps(asdict(asyncio.run(measure(models)))))


if __name__ == "__main__":
    main()
