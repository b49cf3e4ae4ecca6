"""Whatever way bytes come, and whatever bytes come: one request in is at most one request out.

Rules:
1. Valid requests give the same result at any split points.
2. Mutated requests never raise, never become two requests at a server, and what a server gets is always one whole
   request that an independent parser understands, on the path and with the body that was meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.core.snapshot import Endpoint, ModelRoute
from tests.support.dataplane import answer, chunked, model, post, request, target
from tests.support.playground import Playground, Seen

CHUNKED = b"transfer-encoding: chunked"
ANSWER = answer(b'{"predictions": [1]}', b"content-type: application/json")

SERVER = Endpoint("tcp", "127.0.0.1", 9, authority="server")
HELD, STREAMED = model(target("v3", SERVER)), model(target("v3", SERVER), buffer=4)

# Requests that are plainly one, and the path and body that a server must get for them.
VALID: list[tuple[bytes, str, bytes]] = [
    (post(b'{"a": 1}', b"content-type: application/json"), "/invocations", b'{"a": 1}'),
    (post(b"", b"connection: keep-alive, x-a", b"x-a: b"), "/invocations", b""),
    (post(b"", CHUNKED, length=False) + chunked(b"hello ", b"world"), "/invocations", b"hello world"),
    (post(b"", CHUNKED, length=False) + b"5;x=y\r\nhello\r\n0\r\nx-t: 1\r\n\r\n", "/invocations", b"hello"),
    (request(b"GET", b"/models/fraud/ping?a=b"), "/ping?a=b", b""),
    (request(b"GET", b"http://other.test/v2/models/fraud/ready"), "/v2/models/fraud/ready", b""),
    (post(b"h2c body", b"connection: upgrade", b"upgrade: h2c", b"http2-settings: AA"), "/invocations", b"h2c body"),
    (post(b"", b"connection: Upgrade", b"upgrade: h2c", CHUNKED, length=False) + chunked(b"x"), "/invocations", b"x"),
    (post(b"continue", b"expect: 100-continue"), "/invocations", b"continue"),
    (b"\r\n" + post(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), "/invocations", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    (post(b"k", b"x-request-id: mine", b"cookie: a=b", b"via: 1.1 x", b"te: trailers"), "/invocations", b"k"),
]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that never turns."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@contextmanager
def playing(loop: asyncio.AbstractEventLoop, route: ModelRoute | None = None) -> Iterator[Playground]:
    """A playground that must be left with nothing under way."""
    ground = Playground(loop, answer=ANSWER, route=route)
    yield ground
    ground.end()


def outline(seen: list[Seen]) -> list[tuple[str, bytes]]:
    return [(one.target.decode("latin-1"), one.body) for one in seen]


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


POINTS = st.lists(st.integers(0, 100_000), max_size=12)
QUICK = settings(deadline=None, derandomize=True, database=None)


@QUICK
@given(chosen=st.lists(st.integers(0, len(VALID) - 1), min_size=1, max_size=5), points=POINTS)
def test_split_points_do_not_matter(loop: asyncio.AbstractEventLoop, chosen: list[int], points: list[int]) -> None:
    data = b"".join(VALID[index][0] for index in chosen)
    with playing(loop) as ground:
        for piece in cut(data, points):
            ground.send(piece)

        assert outline(ground.seen) == [(VALID[index][1], VALID[index][2]) for index in chosen]
        assert ground.responses() == [(200, b'{"predictions": [1]}')] * len(chosen)
        assert not ground.transport.closed


@pytest.mark.parametrize("index", range(len(VALID)))
def test_every_single_split_point(loop: asyncio.AbstractEventLoop, index: int) -> None:
    data, path, body = VALID[index]
    for at in range(len(data)):
        with playing(loop) as ground:
            ground.send(data[:at])
            ground.send(data[at:])
            ground.send(VALID[0][0])

            assert outline(ground.seen) == [(path, body), ("/invocations", b'{"a": 1}')], f"split at {at}"
            assert [status for status, _ in ground.responses()] == [200, 200]


@pytest.mark.parametrize("index", range(len(VALID)))
def test_byte_by_byte(loop: asyncio.AbstractEventLoop, index: int) -> None:
    data, path, body = VALID[index]
    with playing(loop) as ground:
        for at in range(len(data)):
            ground.send(data[at : at + 1])

        assert outline(ground.seen) == [(path, body)]


INSERTED = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b"\x0b", b":", b";", b",", b"0", b"5", b"-1", b"\xff", b"\x80",
    b"content-length: 3\r\n", b"Content-Length: 0\r\n", b"transfer-encoding: chunked\r\n", b"host: b\r\n",
    b"Transfer-Encoding: identity\r\n", b" chunked", b"chunked, ", b"0\r\n\r\n", b"\r\n\r\n", b"\r\n ", b"HTTP/1.0",
    b"GET /models/fraud/evil HTTP/1.1\r\nhost: a\r\n\r\n", b"upgrade: h2c\r\n", b"connection: close\r\n",
    b"connection: upgrade\r\n", b"expect: 100-continue\r\n", b"../", b"%2e%2e/", b"x" * 9000, b"a: b\r\n" * 120,
    b"x-request-id: \x7f\r\n", b"via: 1.1 x\r\n", b"connection: content-length\r\n",
]  # fmt: skip

MUTATION = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 100_000), st.sampled_from(INSERTED) | st.binary(max_size=4)),
    st.tuples(st.just("delete"), st.integers(0, 100_000), st.integers(1, 12)),
    st.tuples(st.just("replace"), st.integers(0, 100_000), st.binary(min_size=1, max_size=2)),
    st.tuples(st.just("double"), st.integers(0, 100_000), st.integers(1, 40)),
)


def mutated(data: bytes, mutations: list[tuple[str, int, bytes | int]]) -> bytes:
    for kind, where, what in mutations:
        at = where % (len(data) + 1)
        if isinstance(what, bytes):
            behind = at + len(what) if kind == "replace" else at
            data = data[:at] + what + data[behind:]
        elif kind == "delete":
            data = data[:at] + data[at + what :]
        else:
            data = data[: at + what] + data[at:]
    return data


def understood(data: bytes) -> int:
    """How many requests an independent strict parser finds in `data`, up to the first that it does not understand."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    found = 0
    try:
        parser.receive_data(data)
        while True:
            event = parser.next_event()
            if isinstance(event, h11.EndOfMessage):
                found += 1
                if parser.our_state is h11.SWITCHED_PROTOCOL or parser.their_state is not h11.DONE:
                    return found
                parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                parser.send(h11.EndOfMessage())
                if parser.our_state is not h11.DONE:
                    return found
                parser.start_next_cycle()
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return found
    except h11.RemoteProtocolError:
        return found


@settings(QUICK, max_examples=600)
@given(
    index=st.integers(0, len(VALID) - 1),
    mutations=st.lists(MUTATION, min_size=1, max_size=4),
    points=POINTS,
    route=st.sampled_from([HELD, STREAMED]),
)
@example(index=0, mutations=[("insert", 30, b"transfer-encoding: chunked\r\n")], points=[], route=STREAMED)
@example(index=0, mutations=[("delete", 6, 1), ("insert", 44, b"a: b\r\n" * 120)], points=[], route=HELD)
@example(index=2, mutations=[("insert", 30, b"content-length: 3\r\n")], points=[60], route=STREAMED)
def test_one_mutated_request_is_at_most_one_request_upstream(
    loop: asyncio.AbstractEventLoop,
    index: int,
    mutations: list[tuple[str, int, bytes | int]],
    points: list[int],
    route: ModelRoute,
) -> None:
    data = mutated(VALID[index][0], mutations)
    with playing(loop, route) as ground:
        for piece in cut(data, points):
            ground.send(piece)
        seen = list(ground.seen)

        # A mutation may write a second request; then it is one for every parser.
        assert len(seen) <= max(1, understood(data))
        assert len(ground.responses()) >= len(seen)
        for one in seen:
            names = [name for name, _ in one.headers]
            assert names.count(b"host") == 1
            assert names.count(b"x-request-id") == 1
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
            assert b"/.." not in one.target.partition(b"?")[0]
            assert not any(byte in value for _, value in one.headers for byte in (b"\r", b"\n", b"\0"))
        assert [one.target for one in seen if b"evil" in one.target] == [] or b"evil" in data


@QUICK
@given(data=st.binary(max_size=300), points=POINTS)
def test_noise_is_refused(loop: asyncio.AbstractEventLoop, data: bytes, points: list[int]) -> None:
    with playing(loop) as ground:
        for piece in cut(data, points):
            ground.send(piece)

        assert not ground.seen
        assert {status for status, _ in ground.responses()} <= {400, 404}


@settings(QUICK, max_examples=200)
@given(mutations=st.lists(MUTATION, max_size=3), points=POINTS, index=st.integers(0, 3))
def test_mutated_responses_never_answer_another_request(
    loop: asyncio.AbstractEventLoop, mutations: list[tuple[str, int, bytes | int]], points: list[int], index: int
) -> None:
    """The first response is mutated; the client that asks next gets the answer to its own request, or none."""
    bodies = [
        answer(b"first"),
        answer(b"", CHUNKED, length=False) + chunked(b"fi", b"rst"),
        answer(b"", status=b"204 No Content", length=False),
        answer(b"first", b"connection: close, x-a", b"x-a: b", status=b"404 Not Found"),
    ]
    first = mutated(bodies[index], mutations)
    ground = Playground(loop, answer=b"")
    ground.client.data_received(post(b"1"))
    (asked,) = [server for server in ground.servers if server.transport.written]
    for piece in cut(first, points):
        if not asked.transport.closed and asked.connection.exchange is not None:
            asked.connection.data_received(piece)
        elif not asked.transport.closed and piece:
            asked.connection.data_received(piece)
            assert asked.transport.closed
    if asked.connection.exchange is not None:
        asked.connection.connection_lost(None)
        asked.transport.closed = True
    written = ground.transport.written
    if not ground.transport.closed and not ground.transport.ended:
        ground.answer = answer(b"second", b"x-second: yes")
        for server in ground.servers:
            list(server.requests())
        ground.send(post(b"2"))
        assert ground.transport.written[len(written) :].endswith(b"second")
        assert b"\r\nx-second: yes\r\n" in ground.transport.written[len(written) :]
    ground.client.connection_lost(None)
    assert ground.pool.in_flight == 0
