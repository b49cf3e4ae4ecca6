"""Stand-ins for what control stands on: time, registry, supervisor, store."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from router.core.snapshot import RoutingSnapshot
from router.core.wire import Applied, SnapshotUpdate, apply_update, decode, encode
from router.errors import UpstreamError
from router.store.base import LastGood, StoreError


class FakeClock:
    """Time that passes only when a test says so."""

    def __init__(self, start: float = 1_000.0) -> None:
        self.now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass and wakes who slept until then."""
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)


async def until(condition: object, *, clock: FakeClock | None = None, step: float = 0.1, seconds: float = 10.0) -> None:
    """Returns once `condition()` holds; where a fake clock is given, its time passes meanwhile.

    Raises:
        TimeoutError: it did not hold within `seconds` of real time.
    """
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
            if clock is not None:
                clock.advance(step)


@dataclass
class FakeRegistry:
    """Knows `uris`; with `down` set every question fails."""

    uris: dict[str, str] = field(default_factory=dict)
    down: bool = False
    resolved: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    async def resolve(self, uri: str) -> Mapping[str, object]:
        self.resolved.append(uri)
        if self.down or uri not in self.uris:
            raise UpstreamError(f"the registry does not answer for {uri}")
        return {"uri": uri, "resolved": self.uris[uri], "name": "m", "version": "1"}

    async def fetch(self, uri: str, directory: Path) -> str:
        self.fetched.append(uri)
        if self.down:
            raise UpstreamError("the registry does not answer")
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        return f"digest of {uri}"


@dataclass
class MemoryStore:
    """A store in memory; with `broken` set every write fails."""

    goods: dict[str, LastGood] = field(default_factory=dict)
    kept_pins: dict[str, str] = field(default_factory=dict)
    admissions: set[str] = field(default_factory=set)
    broken: bool = False

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the disk is full")

    def last_good(self, model: str) -> LastGood | None:
        return self.goods.get(model)

    def last_goods(self) -> Mapping[str, LastGood]:
        self._check()
        return dict(self.goods)

    def save_last_good(self, model: str, text: str, digest: str, at: float) -> None:
        self._check()
        self.goods[model] = LastGood(text, digest, at)

    def forget(self, model: str) -> None:
        self._check()
        self.goods.pop(model, None)

    def pins(self) -> Mapping[str, str]:
        return dict(self.kept_pins)

    def save_pin(self, uri: str, resolved: str) -> None:
        self._check()
        self.kept_pins[uri] = resolved

    def admitted(self) -> set[str]:
        return set(self.admissions)

    def admit(self, digest: str, model: str, version: str, at: float) -> None:
        self._check()
        self.admissions.add(digest)

    def close(self) -> None:
        return


class FakeWorker:
    """Speaks as a worker does; `held` is its snapshot."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, index: int) -> None:
        self.reader, self.writer, self.index = reader, writer, index
        self.held: RoutingSnapshot | None = None
        self.updates: list[SnapshotUpdate] = []

    async def receive(self) -> None:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        update = decode(await self.reader.readexactly(size))
        assert isinstance(update, SnapshotUpdate)
        self.updates.append(update)
        self.held = apply_update(self.held, update)
        assert self.held is not None, "an update that does not fit"
        self.writer.write(encode(Applied(self.index, self.held.sequence)))

    async def receive_until(self, sequence: int) -> RoutingSnapshot:
        async with asyncio.timeout(5):
            while self.held is None or self.held.sequence < sequence:
                await self.receive()
        return self.held
