"""Connections to servers and their pools, without sockets."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import pytest

from router.core.snapshot import Endpoint
from router.dataplane.pool import KEEP_IDLE, Pool, Pools
from router.dataplane.problems import Problem, Problems
from router.dataplane.upstream import MAX_HEAD, MAX_IDLE, UpstreamConnection
from tests.support.playground import FakeTransport

ENDPOINT = Endpoint("tcp", "127.0.0.1", 9)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class FakeExchange:
    """What a connection tells its exchange."""

    def __init__(self, method: bytes = b"POST") -> None:
        self.method = method
        self.whole = True
        self.arrived: list[tuple[int, bytes, bool]] = []
        self.problems: list[Problem] = []
        self.given: list[UpstreamConnection] = []
        self.flow: list[str] = []

    def response_arrived(self, connection: UpstreamConnection) -> None:
        self.arrived.append((connection.status, connection.take_body(), connection.complete))

    def attempt_failed(self, connection: UpstreamConnection, problem: Problem) -> None:
        self.problems.append(problem)
        connection.discard()

    def connect_failed(self, problem: Problem) -> None:
        self.problems.append(problem)

    def connected(self, connection: UpstreamConnection) -> None:
        self.given.append(connection)

    def upload_blocked(self) -> None:
        self.flow.append("blocked")

    def upload_unblocked(self) -> None:
        self.flow.append("unblocked")


@pytest.fixture
def pool() -> Pool:
    return Pools(cast("Any", None), 10).get(ENDPOINT)


def connection(pool: Pool, exchange: FakeExchange | None = None) -> tuple[UpstreamConnection, FakeTransport]:
    made, transport = UpstreamConnection(pool), FakeTransport()
    made.connection_made(cast("Any", transport))
    made.exchange = cast("Any", exchange)
    return made, transport


def test_a_response_is_told_piece_by_piece(pool: Pool) -> None:
    exchange = FakeExchange()
    made, _ = connection(pool, exchange)

    for piece in (OK[:10], OK[10:-1], OK[-1:]):
        made.data_received(piece)

    assert exchange.arrived == [(200, b"o", False), (200, b"k", True)]
    assert made.keep_alive


def test_a_connection_is_good_for_response_after_response(pool: Pool) -> None:
    made, transport = connection(pool)
    for number in range(3):
        exchange = FakeExchange()
        made.exchange = cast("Any", exchange)
        made.data_received(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
        assert exchange.arrived == [(200, b"ok", True)]
        assert made.lines == []
        made.release(float(number))
        assert pool.take(float(number)) is made
    assert not transport.closed


@pytest.mark.parametrize("more", [b"H", b"x", OK, b"\x00"])
def test_what_comes_behind_a_response_spoils_the_connection(pool: Pool, more: bytes) -> None:
    exchange = FakeExchange()
    made, transport = connection(pool, exchange)

    made.data_received(OK + more)
    made.release(1.0)

    assert exchange.arrived == [(200, b"ok", True)]
    assert transport.closed
    assert pool.idle == []


def test_what_comes_unasked_closes_the_connection(pool: Pool) -> None:
    made, transport = connection(pool)
    pool.idle.append(made)

    made.data_received(OK)

    assert transport.closed
    assert pool.take(0.0) is None


def test_a_connection_that_ended_while_idle_is_not_taken(pool: Pool) -> None:
    first, _ = connection(pool)
    second, _ = connection(pool)
    pool.idle += [first, second]

    second.eof_received()
    assert pool.idle == [first]
    first.connection_lost(None)
    assert pool.idle == []


def test_the_end_of_a_connection_ends_a_response_without_framing(pool: Pool) -> None:
    exchange = FakeExchange()
    made, _ = connection(pool, exchange)
    made.data_received(b"HTTP/1.1 200 OK\r\n\r\nall")

    made.connection_lost(None)

    assert exchange.arrived == [(200, b"all", False), (200, b"", True)]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\n", None),
        (OK[:-1], None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\nall", ConnectionResetError()),
        (b"HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n", None),
    ],
)
def test_any_other_end_breaks_the_response(pool: Pool, sent: bytes, error: Exception | None) -> None:
    exchange = FakeExchange()
    made, _ = connection(pool, exchange)
    if sent:
        made.data_received(sent)

    made.connection_lost(error)

    assert exchange.problems == [Problems.BROKE]


def test_an_endless_head_is_garbled(pool: Pool) -> None:
    exchange = FakeExchange()
    made, transport = connection(pool, exchange)
    made.data_received(b"HTTP/1.1 200 OK\r\n")

    for _ in range(MAX_HEAD // 1000):
        made.data_received(b"x-a: %b\r\n" % (b"a" * 1000))
        if exchange.problems:
            break

    assert exchange.problems == [Problems.GARBLED]
    assert transport.aborted


def test_flow_control_reaches_the_exchange(pool: Pool) -> None:
    exchange = FakeExchange()
    made, _ = connection(pool, exchange)

    made.pause_writing()
    made.resume_writing()
    made.exchange = None
    made.pause_writing()
    made.resume_writing()

    assert exchange.flow == ["blocked", "unblocked"]


def test_a_closed_connection_is_freed_at_once(pool: Pool) -> None:
    made, _ = connection(pool)
    gone = weakref.ref(made)
    gc.disable()
    try:
        made.connection_lost(None)
        del made
        assert gone() is None
    finally:
        gc.enable()


# -- pools


def test_the_connection_used_last_is_taken_first_and_old_ones_close(pool: Pool) -> None:
    transports = []
    for since in (1.0, 2.0, 3.0):
        made, transport = connection(pool)
        made.idle_since = since
        pool.idle.append(made)
        transports.append(transport)

    assert pool.take(2.0 + KEEP_IDLE) is not None
    assert pool.take(2.0 + KEEP_IDLE) is None
    assert [transport.closed for transport in transports] == [True, True, False]


def test_a_sweep_closes_what_is_too_old(pool: Pool) -> None:
    old, old_transport = connection(pool)
    young, young_transport = connection(pool)
    old.idle_since, young.idle_since = 1.0, 2.0
    pool.idle += [old, young]

    pool.sweep(1.0 + KEEP_IDLE)

    assert pool.idle == [young]
    assert (old_transport.closed, young_transport.closed) == (True, False)


def test_a_server_that_closes_idle_connections_early_gets_them_back_earlier(pool: Pool) -> None:
    for idle in (0.5, 0.2, 0.4):
        pool.closed_idle(idle)
    for idle_since in (8.0, 9.85, 9.95):
        made, _ = connection(pool)
        made.idle_since = idle_since
        pool.idle.append(made)

    assert pool.keep_idle == 0.1, "half of the shortest time"
    assert pool.take(10.0) is not None
    assert pool.take(10.0) is None


def test_a_connection_that_ends_while_idle_tells_how_long_the_server_keeps_them(pool: Pool) -> None:
    made, _ = connection(pool)
    made.idle_since = monotonic() - 0.5
    pool.idle.append(made)
    made.eof_received()

    assert pool.keep_idle == pytest.approx(0.25, abs=0.05)


def test_that_is_forgotten_when_it_does_not_happen_again(pool: Pool) -> None:
    pool.closed_idle(0.0001)
    pool.sweep(0.0)
    assert pool.keep_idle == 0.00005, "it did happen in the second before"
    for second in range(1, 14):
        pool.sweep(float(second))

    assert pool.keep_idle == KEEP_IDLE


def test_a_limit_of_its_own_bounds_an_endpoint(pool: Pool) -> None:
    pool.limit, pool.in_flight = 20, 19
    assert not pool.is_full(1.0, 30.0)
    pool.in_flight = 20

    assert pool.is_full(1.0, 30.0)


def test_only_so_many_stay_idle(pool: Pool) -> None:
    for _ in range(MAX_IDLE + 5):
        made, _ = connection(pool, FakeExchange())
        made.data_received(OK)
        made.release(1.0)

    assert len(pool.idle) == MAX_IDLE


def test_pools_are_pruned_when_nothing_uses_them() -> None:
    pools = Pools(cast("Any", None), 10)
    used, busy, unused = (pools.get(Endpoint("tcp", "127.0.0.1", port)) for port in (1, 2, 3))
    made, transport = connection(unused)
    unused.idle.append(made)
    busy.in_flight = 1

    assert not pools.prune({used}), "a request holds one of them back"
    assert transport.closed
    busy.in_flight = 0
    assert pools.prune({used})
    assert pools.get(Endpoint("tcp", "127.0.0.1", 1)) is used
    assert pools.get(Endpoint("tcp", "127.0.0.1", 2)) is not busy


def test_the_ejected_are_known() -> None:
    pools = Pools(cast("Any", None), 10)
    one, other = (pools.get(Endpoint("tcp", "127.0.0.1", port)) for port in (1, 2))
    one.health.ejected_until = 10.0

    assert set(pools.ejected(9.0)) == {one}
    assert other not in pools.ejected(9.0)
    assert not pools.ejected(10.0)


# -- connecting


def opened(monkeypatch: pytest.MonkeyPatch, pools: Pools, then: Callable[[UpstreamConnection], None]) -> None:
    """Replaces the opening of sockets by `then`."""

    async def open_(_: Endpoint, factory: Callable[[], UpstreamConnection]) -> None:
        then(factory())

    monkeypatch.setattr(pools, "open", open_)


@pytest.mark.anyio
async def test_a_connection_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = Pools(asyncio.get_running_loop(), 10)
    opened(monkeypatch, pools, lambda made: made.connection_made(cast("Any", FakeTransport())))
    exchange = FakeExchange()

    await pools.get(ENDPOINT).connect(cast("Any", exchange))

    assert len(exchange.given) == 1


@pytest.mark.anyio
async def test_a_connection_that_closes_as_it_opens_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end came before anybody could be told of it: without this the request would wait for its deadline."""

    def closed_at_once(made: UpstreamConnection) -> None:
        transport = FakeTransport()
        made.connection_made(cast("Any", transport))
        transport.close()
        made.connection_lost(None)

    pools = Pools(asyncio.get_running_loop(), 10)
    opened(monkeypatch, pools, closed_at_once)
    exchange = FakeExchange()

    await pools.get(ENDPOINT).connect(cast("Any", exchange))

    assert exchange.problems == [Problems.BROKE]
    assert exchange.given == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "problem"),
    [(ConnectionRefusedError(), Problems.REFUSED), (ssl.SSLCertVerificationError(), Problems.TLS)],
)
async def test_why_no_connection_opens(monkeypatch: pytest.MonkeyPatch, error: Exception, problem: Problem) -> None:
    def fail(_: UpstreamConnection) -> None:
        raise error

    pools = Pools(asyncio.get_running_loop(), 10)
    opened(monkeypatch, pools, fail)
    exchange = FakeExchange()

    await pools.get(ENDPOINT).connect(cast("Any", exchange))

    assert exchange.problems == [problem]


@pytest.mark.anyio
@pytest.mark.parametrize("made_already", [True, False])
async def test_an_attempt_that_is_over_takes_its_connection_along(
    monkeypatch: pytest.MonkeyPatch, made_already: bool
) -> None:
    pools = Pools(asyncio.get_running_loop(), 10)
    transport = FakeTransport()
    waiting = asyncio.Event()

    async def open_(_: Endpoint, factory: Callable[[], UpstreamConnection]) -> None:
        made = factory()
        if made_already:
            made.connection_made(cast("Any", transport))
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(pools, "open", open_)
    exchange = FakeExchange()
    task = pools.get(ENDPOINT).connect(cast("Any", exchange))
    await waiting.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert transport.aborted is made_already
    assert exchange.problems == []
