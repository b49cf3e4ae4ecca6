"""Stand-ins for what control stands on: time, registry, supervisor, store."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from router.control.canary import Step
from router.control.steering import Steering
from router.core.snapshot import RoutingSnapshot
from router.core.wire import Applied, SnapshotUpdate, apply_update, decode, encode
from router.errors import UpstreamError
from router.store.audit import GENESIS, AuditEntry, AuditRecord, Finding, Head, seal
from router.store.base import Intent, Kind, LastGood, Put, StoreConflict, StoreError, StoreFull, Versioned


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

    async def fetch(self, uri: str, directory: Path, expected: str) -> str:
        held: bool = await asyncio.to_thread(directory.is_dir)
        if expected and held:
            return expected
        self.fetched.append(uri)
        if self.down:
            raise UpstreamError("the registry does not answer")
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        return f"digest of {uri}"

    async def prepare(self, directory: Path) -> Path:
        if self.down:
            raise UpstreamError("no index can be reached")
        return directory / "python"


@dataclass
class MemoryLedger:
    """A ledger in memory; with `broken` set every write fails, with `held` each waits for that event."""

    states: dict[tuple[Kind, str, str], Versioned] = field(default_factory=dict)
    records: list[AuditRecord] = field(default_factory=list)
    broken: bool = False
    unreadable: bool = False
    held: threading.Event | None = None
    writes: int = 0
    _revision: int = 0

    def _of(self, kind: Kind) -> dict[tuple[str, str], Versioned]:
        if self.unreadable:
            raise StoreError("the disk is gone")
        return {(model, version): value for (of, model, version), value in self.states.items() if of is kind}

    def rollouts(self) -> Mapping[tuple[str, str], Versioned]:
        return self._of(Kind.ROLLOUT)

    def evidences(self) -> Mapping[tuple[str, str], Versioned]:
        return self._of(Kind.EVIDENCE)

    def gates(self) -> Mapping[tuple[str, str], Versioned]:
        return self._of(Kind.GATE)

    def put_rollout(self, model: str, version: str, state: bytes, expect: int) -> int:
        return self.put_all([Put(Kind.ROLLOUT, model, version, state, expect)])[0]

    def delete_rollout(self, model: str, version: str, expect: int) -> None:
        self.put_all([Put(Kind.ROLLOUT, model, version, None, expect)])

    def put_evidence(self, model: str, version: str, state: bytes, expect: int) -> int:
        return self.put_all([Put(Kind.EVIDENCE, model, version, state, expect)])[0]

    def delete_evidence(self, model: str, version: str, expect: int) -> None:
        self.put_all([Put(Kind.EVIDENCE, model, version, None, expect)])

    def put_all(self, puts: Sequence[Put]) -> tuple[int, ...]:
        self._check_write()
        for put in puts:
            known = self.states.get((put.kind, put.model, put.version))
            if (known.revision if known else 0) != put.expect:
                raise StoreConflict("somebody else was first")
        return tuple(self._put(put) for put in puts)

    def _put(self, put: Put) -> int:
        key = (put.kind, put.model, put.version)
        if put.value is None:
            self.states.pop(key, None)
            return 0
        self._revision += 1
        self.states[key] = Versioned(put.value, self._revision)
        return self._revision

    def commit_intent(self, entry: AuditEntry, puts: Sequence[Put]) -> Intent:
        revisions = self.put_all(puts)
        return Intent(self._append(entry), revisions)

    def append_audit(self, entry: AuditEntry) -> AuditRecord:
        self._check_write()
        return self._append(entry)

    def _append(self, entry: AuditEntry) -> AuditRecord:
        record, _ = seal(entry, self.audit_head())
        self.records.append(record)
        return record

    def audit(self, model: str | None = None, after: int = 0, limit: int = 1000) -> Sequence[AuditRecord]:
        found = [each for each in self.records if each.sequence > after and model in (None, each.entry.model)]
        return found[:limit]

    def audit_head(self) -> Head:
        return Head(self.records[-1].sequence, self.records[-1].hash) if self.records else Head(0, GENESIS)

    def verify(self, head: Head | None = None) -> Sequence[Finding]:
        return []

    def _check_write(self) -> None:
        self.writes += 1
        if self.held is not None:
            self.held.wait(10)
        if self.broken:
            raise StoreFull("the disk is full")


@dataclass
class MemoryStore(MemoryLedger):
    """A store in memory; with `broken` set every write fails."""

    goods: dict[str, LastGood] = field(default_factory=dict)
    kept_pins: dict[str, str] = field(default_factory=dict)
    admissions: set[str] = field(default_factory=set)

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

    def keep_named(self, pins: Collection[str], admitted: Collection[str], at: float, unnamed_for: float) -> int:
        """Takes a long time to have passed: what is not named is dropped."""
        self._check()
        before = len(self.kept_pins) + len(self.admissions)
        self.kept_pins = {uri: pin for uri, pin in self.kept_pins.items() if uri in pins}
        self.admissions &= set(admitted)
        return before - len(self.kept_pins) - len(self.admissions)

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


class PromptSteering(Steering):
    """A steering whose steps are in force at once: its store is never in the way."""

    def __init__(self, regions: Sequence[str]) -> None:
        super().__init__(regions, FakeClock())
        self.recall({}, {})

    def _put(self, step: Step | None) -> None:
        if step is not None and not step.at_once:
            step.canary.take(step)
