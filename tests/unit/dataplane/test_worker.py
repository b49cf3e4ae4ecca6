"""What the connections of one process share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from router.core.snapshot import Endpoint
from router.core.wire import SnapshotUpdate
from router.dataplane.worker import Worker, WorkerConfig
from tests.support.dataplane import answer, chunked, model, post, target
from tests.support.playground import FakeTransport, Playground


class FakeListener:
    """A listening socket that says where it listens."""

    def __init__(self, *address: Any) -> None:
        self.address = address

    def getsockname(self) -> tuple[Any, ...]:
        return self.address


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def worker(loop: asyncio.AbstractEventLoop, trusted: tuple[str, ...] = (), **listen: FakeListener) -> Worker:
    listeners = cast("Any", listen or {"default": FakeListener("127.0.0.1", 8080)})
    return Worker(WorkerConfig(Path("unused"), 0, listeners, trusted_proxies=trusted, identity="test"), loop)


# -- regions


def test_a_region_is_told_by_its_listeners_address(loop: asyncio.AbstractEventLoop) -> None:
    made = worker(
        loop, eu=FakeListener("10.0.0.1", 80), us=FakeListener("10.0.0.2", 80), ap=FakeListener("0.0.0.0", 81)
    )

    assert made.table_of(("10.0.0.1", 80)).region == "eu"
    assert made.table_of(("10.0.0.2", 80)).region == "us"
    assert made.table_of(("192.168.0.1", 81)).region == "ap", "who listens everywhere has connections to any address"


def test_a_region_of_an_ipv6_listener(loop: asyncio.AbstractEventLoop) -> None:
    made = worker(loop, eu=FakeListener("::1", 80, 0, 0), us=FakeListener("::", 81, 0, 0))

    assert made.table_of(cast("Any", ("::1", 80, 0, 0))).region == "eu"
    assert made.table_of(cast("Any", ("fe80::1", 81, 0, 3))).region == "us"


# -- forwarding


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [(b"10.1.2.3", True), (b"11.1.2.3", False), (b"::1", True), (b"fd00::1%eth0", True), (b"unknown", False)],
)
def test_trusted_proxies(loop: asyncio.AbstractEventLoop, peer: bytes, trusted: bool) -> None:
    assert worker(loop, ("10.0.0.1/8", "::1", "fd00::/8")).trusts(peer) is trusted
    assert not worker(loop).trusts(peer)


def test_ipv6_peers_are_quoted_in_forwarded(loop: asyncio.AbstractEventLoop) -> None:
    lines = worker(loop).forwarding(b"fd00::1", b"[::1]:80").split(b"\r\n")

    assert lines[0] == b"x-forwarded-for: fd00::1"
    assert lines[3] == b'forwarded: for="[fd00::1]";host="[::1]:80";proto=http'


def test_ids_are_unique(loop: asyncio.AbstractEventLoop) -> None:
    first, second = worker(loop), worker(loop)

    made = {first.new_id() for _ in range(100)} | {second.new_id() for _ in range(100)}

    assert len(made) == 200
    assert {len(one) for one in made} == {28}


# -- snapshots


@pytest.mark.anyio
async def test_updates_change_what_they_name() -> None:
    made = worker(asyncio.get_running_loop())
    endpoint = Endpoint("tcp", "127.0.0.1", 9)
    routes = {name: model(target("v1", endpoint), name=name) for name in (f"m{n}" for n in range(50))}
    table = made.tables["default"]
    assert not made.ready

    await made.apply(SnapshotUpdate(1, None, routes))
    assert (made.ready, len(table)) == (True, 50)
    await made.apply(SnapshotUpdate(2, 1, {"m1": model(target("v2", endpoint), name="m1")}, ("m0", "never there")))
    assert table.names() == {f"m{n}" for n in range(1, 50)}
    changed = table.get("m1")
    assert changed is not None
    assert changed.stable.version == b"v2"
    await made.apply(SnapshotUpdate(3, 2, {"m1": model(target("v2", endpoint), name="m1", regions=("elsewhere",))}))
    assert table.get("m1") is None
    await made.apply(SnapshotUpdate(4, None, {"m7": routes["m7"]}))
    assert table.names() == {"m7"}


@pytest.mark.anyio
async def test_sticky_headers_follow_the_models() -> None:
    made = worker(asyncio.get_running_loop())
    endpoint = Endpoint("tcp", "127.0.0.1", 9)
    sticky = {name: model(target("v1", endpoint), name=name, sticky_header="X-Key") for name in ("a", "b")}
    await made.apply(SnapshotUpdate(1, None, sticky))
    kind = made.names.learn(b"X-Key")
    assert kind

    await made.apply(SnapshotUpdate(2, 1, {}, ("a",)))
    assert made.names.learn(b"X-Key") == kind
    await made.apply(SnapshotUpdate(3, 2, {"b": model(target("v1", endpoint), name="b", sticky_header="X-Other")}))
    assert made.names.learn(b"X-Key") == 0
    assert made.names.learn(b"X-Other") == kind
    await made.apply(SnapshotUpdate(4, 3, {"b": model(target("v1", endpoint), name="b")}))
    assert made.names.learn(b"X-Other") == 0


# -- flow control, turn by turn


def paused(transport: FakeTransport) -> bool:
    """Whether `transport` is paused now; asking anew, as a checker would not."""
    return transport.paused


class Blocking(FakeTransport):
    """A client that takes nothing more once `full`: the write that finds it so pauses its protocol at once."""

    full = False
    protocol: Any = None

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.full:
            self.full = False
            self.protocol.pause_writing()


def test_a_connection_is_not_given_back_paused(loop: asyncio.AbstractEventLoop) -> None:
    """The last piece of a response finds the client slow: the server's connection must be read from all the same."""
    ground = Playground(loop, answer=b"")
    transport = Blocking()
    transport.protocol = ground.client
    ground.client.transport = cast("Any", transport)
    ground.client.data_received(post())
    (asked,) = [server for server in ground.servers if server.transport.written]
    whole = answer(b"", b"transfer-encoding: chunked", length=False) + chunked(b"one", b"two")
    asked.connection.data_received(whole[:-10])

    transport.full = True
    asked.connection.data_received(whole[-10:])

    assert asked.connection in ground.pool.idle
    assert not paused(asked.transport)
    assert paused(transport), "the client is not read from while it does not read"
    ground.client.resume_writing()
    assert not paused(transport)
    ground.end()


def test_a_blocked_client_pauses_the_server_and_its_deadline(loop: asyncio.AbstractEventLoop) -> None:
    ground = Playground(loop, answer=b"")
    transport = Blocking()
    transport.protocol = ground.client
    ground.client.transport = cast("Any", transport)
    ground.client.data_received(post())
    (asked,) = [server for server in ground.servers if server.transport.written]
    exchange = asked.connection.exchange
    assert exchange is not None

    transport.full = True
    asked.connection.data_received(answer(b"one and two")[:-3])
    assert paused(asked.transport)
    assert exchange.next_deadline() == float("inf")
    ground.client.resume_writing()
    assert not paused(asked.transport)
    assert exchange.next_deadline() < float("inf")

    asked.connection.data_received(b"two")
    assert transport.written.endswith(b"one and two")
    ground.end()


def test_pipelined_requests_wait_until_the_client_reads(loop: asyncio.AbstractEventLoop) -> None:
    ground = Playground(loop, answer=answer(b"x"))
    transport = Blocking()
    transport.protocol = ground.client
    ground.client.transport = ground.transport = cast("Any", transport)
    transport.full = True

    ground.send(post(b"1") + post(b"2") + post(b"3"))
    assert [one.body for one in ground.seen] == [b"1"]
    ground.client.resume_writing()
    ground._serve()

    assert [one.body for one in ground.seen] == [b"1", b"2", b"3"]
    assert not paused(transport)
    ground.end()
