from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.control.workers import Workers
from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute
from router.core.wire import Hello, encode
from tests.unit.control.fakes import FakeWorker, until

pytestmark = pytest.mark.anyio


def route(model: str, digest: str = "1") -> ModelRoute:
    return ModelRoute(model, digest, {})


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.batches: list[OutcomeBatch] = []
        self.gone: list[tuple[int, int]] = []
        self.workers = Workers(self.batches.append, lambda worker, pid: self.gone.append((worker, pid)))
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, index: int = 0, sequence: int = 0) -> FakeWorker:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self._writers.append(writer)
        writer.write(encode(Hello(index, 100 + index, sequence)))
        return FakeWorker(reader, writer, index)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def bench(path: Path) -> AsyncIterator[Bench]:
    made = Bench(path)
    server = await made.workers.serve(path)
    try:
        yield made
    finally:
        made.hang_up()
        made.workers.close()
        server.close()
        await asyncio.sleep(0)


async def test_whole_at_hello_then_changes_only(tmp_path: Path) -> None:
    async with bench(tmp_path / "w.sock") as there:
        there.workers.publish({"a": route("a"), "b": route("b")})
        worker = await there.connect()
        held = await worker.receive_until(1)
        assert set(held.models) == {"a", "b"}
        there.workers.publish({"a": route("a", "2")})
        there.workers.publish({}, ["b"])
        held = await worker.receive_until(3)
        assert held.models == {"a": route("a", "2")}
        assert [set(update.models) for update in worker.updates] == [{"a", "b"}, {"a"}, set()]
        assert [update.base for update in worker.updates] == [None, 1, 2]
        await until(lambda: there.workers.applied() == {0: 3})
        assert there.workers.all_hold(3)
        assert not there.workers.all_hold(4)


async def test_nothing_is_sent_before_control_knows_anything(tmp_path: Path) -> None:
    async with bench(tmp_path / "w.sock") as there:
        worker = await there.connect(sequence=41)
        await until(lambda: there.workers.applied() == {0: 0})
        assert worker.updates == []
        assert there.workers.publish({"a": route("a")}) == 42
        assert (await worker.receive_until(42)).models == {"a": route("a")}


async def test_numbers_go_on_from_what_a_worker_holds(tmp_path: Path) -> None:
    async with bench(tmp_path / "w.sock") as there:
        there.workers.publish({"a": route("a")})
        first = await there.connect(0)
        await first.receive_until(1)
        second = await there.connect(1, sequence=99)
        assert (await second.receive_until(100)).models == {"a": route("a")}
        assert (await first.receive_until(100)).models == {"a": route("a")}


async def test_another_hello_gets_a_whole_snapshot_again(tmp_path: Path) -> None:
    async with bench(tmp_path / "w.sock") as there:
        there.workers.publish({"a": route("a")})
        worker = await there.connect()
        await worker.receive_until(1)
        worker.writer.write(encode(Hello(0, 100, 0)))
        await worker.receive()
        assert worker.updates[-1].base is None


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x00"]
)
async def test_garbage_closes_its_own_connection_alone(tmp_path: Path, garbage: bytes) -> None:
    async with bench(tmp_path / "w.sock") as there:
        there.workers.publish({"a": route("a")})
        worker = await there.connect()
        await worker.receive_until(1)
        reader, writer = await asyncio.open_unix_connection(str(there.path))
        writer.write(garbage)
        async with asyncio.timeout(5):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()
        there.workers.publish({"a": route("a", "2")})
        assert (await worker.receive_until(2)).models == {"a": route("a", "2")}


async def test_a_worker_that_does_not_read_is_dropped_and_delays_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.control.workers.SLACK", 100_000)
    async with bench(tmp_path / "w.sock") as there:
        there.workers.publish({"a": route("a")})
        hung = await there.connect(0)
        awake = await there.connect(1)
        await until(lambda: len(there.workers.applied()) == 2)
        padding = "x" * 50_000
        for number in range(60):
            sequence = there.workers.publish({"a": route("a", f"{number}{padding}")})
            await awake.receive_until(sequence)
        assert set(there.workers.applied()) == {1}
        again = await there.connect(0)
        assert (await again.receive_until(61)).models["a"].digest.startswith("59x")
        assert hung.updates == []


async def test_batches_arrive_and_a_lost_worker_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path / "w.sock") as there:
        worker = await there.connect(3)
        worker.writer.write(encode(OutcomeBatch(3, 103, 1)))
        await until(lambda: there.batches == [OutcomeBatch(3, 103, 1)])
        worker.writer.transport.abort()
        await until(lambda: there.gone == [(3, 103)])
        assert there.workers.applied() == {}


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "w.sock").write_text("left over")
    async with bench(tmp_path / "w.sock") as there:
        there.workers.publish({})
        await (await there.connect()).receive_until(1)
