"""Writes decisions: the audit record and the state that it leads to, in one change, before anything takes effect.

Rules:
1. One write at a time, in a thread, in the order asked for; a canary's writes keep their order also over failures.
   What is written is settled when its turn comes, so that nothing overtaken by a rollback is written after it.
2. What must take effect whatever the store says (a rollback) waits in `outstanding`, and is written before anything
   else of its canary, as soon as the store takes it; `keep_trying` tries again for ever.
3. A write that finds its own state already there, after a failure that was none, is done: nothing is told twice.
4. `problem` says, while it lasts, that the store refuses; `failures` counts refusals.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from router.clock import Clock
from router.control.backoff import Backoff
from router.store.audit import AuditEntry, AuditRecord, Head
from router.store.base import Intent, Key, Kind, Ledger, Put, StoreConflict, StoreError, Versioned

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Revisions:
    """The store's revisions of one canary's states; 0: it holds none."""

    rollout: int = 0
    evidence: int = 0


@dataclass(frozen=True, slots=True)
class Writing:
    """What is to be written of one canary: `entry` where it is told in the audit trail; a state that is None stays."""

    model: str
    version: str
    revisions: Revisions
    rollout: bytes | None = None
    evidence: bytes | None = None
    entry: AuditEntry | None = None

    def puts(self) -> list[Put]:
        """The states, as the store takes them."""
        states = ((Kind.ROLLOUT, self.rollout, self.revisions.rollout),
                  (Kind.EVIDENCE, self.evidence, self.revisions.evidence))  # fmt: skip
        return [Put(kind, self.model, self.version, value, at) for kind, value, at in states if value is not None]


class Stored(NamedTuple):
    """One canary's states as the store has them."""

    rollout: Versioned | None
    evidence: Versioned | None


class Recorder:
    """The queue in front of the ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._turn = asyncio.Lock()
        self._outstanding: list[tuple[Writing, asyncio.Future[AuditRecord]]] = []
        self._woken = asyncio.Event()
        self.head: Head | None = None
        self.problem = ""
        self.failures = 0

    @property
    def outstanding(self) -> int:
        """How many decisions are in force that the store has not taken yet."""
        return len(self._outstanding)

    async def write(self, model: str, version: str, build: Callable[[], Writing | None]) -> AuditRecord | None:
        """Writes now what `build` says when it is this write's turn; the record where there is an entry.

        Raises:
            StoreError: the store refuses, and nothing was changed. It is a `StoreConflict` where somebody else was
                first, or `build` finds that there is nothing to write any more.
        """
        async with self._turn:
            await self._settle(model, version)
            writing = build()
            if writing is None:
                raise StoreConflict("something else came first")
            return await self._do(writing)

    async def note(self, entry: AuditEntry, puts: Sequence[Put]) -> Intent:
        """Writes `entry` and what it leads to, of no canary's rollout, in one change; raises as `write` does."""
        async with self._turn:
            intent: Intent = await self._guarded(lambda: self._ledger.commit_intent(entry, puts))
            self.head = Head(intent.record.sequence, intent.record.hash)
            return intent

    async def gates(self) -> Mapping[Key, Versioned]:
        """What the store has of gates; raises `StoreError` where it cannot be read."""
        return await asyncio.to_thread(self._ledger.gates)

    def owe(self, writing: Writing) -> asyncio.Future[AuditRecord]:
        """Has it written as soon as the store takes it; the future has the record then."""
        written: asyncio.Future[AuditRecord] = asyncio.get_running_loop().create_future()
        self._outstanding.append((writing, written))
        self._woken.set()
        return written

    async def keep_trying(self) -> None:
        """Writes what is owed, for ever."""
        backoff = Backoff(0.25, 5.0)
        while True:
            await self._woken.wait()
            try:
                async with self._turn:
                    await self._settle()
                backoff.succeed()
            except StoreError:
                backoff.fail()
                await self._clock.sleep(backoff.pause)

    async def recall(self) -> tuple[Mapping[Key, Versioned], Mapping[Key, Versioned]]:
        """All states and all evidence that the store has; raises `StoreError` where it cannot be read."""
        rollouts = await asyncio.to_thread(self._ledger.rollouts)
        evidences = await asyncio.to_thread(self._ledger.evidences)
        self.head = await asyncio.to_thread(self._ledger.audit_head)
        return rollouts, evidences

    async def stored(self, model: str, version: str) -> Stored:
        """What the store has of one canary; raises `StoreError` where it cannot be read."""
        rollouts, evidences = await self.recall()
        return Stored(rollouts.get((model, version)), evidences.get((model, version)))

    async def trail(self, model: str | None, after: int, limit: int) -> tuple[Sequence[AuditRecord], Head]:
        """Records of the audit trail, oldest first, and its head; raises `StoreError` where it cannot be read."""
        records = await asyncio.to_thread(self._ledger.audit, model, after, limit)
        self.head = head = await asyncio.to_thread(self._ledger.audit_head)
        return records, head

    async def flush(self) -> None:
        """Writes what is owed once more, before the end."""
        try:
            async with self._turn:
                await self._settle()
        except StoreError as error:
            log.warning("%d decisions are in force and could not be written: %s", self.outstanding, error)

    async def _settle(self, model: str | None = None, version: str | None = None) -> None:
        """Writes what is owed, of one canary alone where it is named."""
        for owed in list(self._outstanding):
            writing, written = owed
            if model is None or (writing.model, writing.version) == (model, version):
                record = await self._do_or_find(writing)
                self._outstanding.remove(owed)
                if not written.done() and record is not None:
                    written.set_result(record)
        if not self._outstanding:
            self._woken.clear()

    async def _do_or_find(self, writing: Writing) -> AuditRecord | None:
        """Rule 3."""
        while True:
            try:
                return await self._do(writing)
            except StoreConflict:
                known, evidence = await self.stored(writing.model, writing.version)
                writing.revisions.rollout = known.revision if known else 0
                writing.revisions.evidence = evidence.revision if evidence else 0
                if known is not None and known.value == writing.rollout:
                    return await self._last_record(writing)

    async def _last_record(self, writing: Writing) -> AuditRecord | None:
        head = await asyncio.to_thread(self._ledger.audit_head)
        records, _ = await self.trail(writing.model, max(0, head.sequence - 100), 100)
        return next((record for record in reversed(records) if record.entry == writing.entry), None)

    async def _do(self, writing: Writing) -> AuditRecord | None:
        puts = writing.puts()
        if writing.entry is None:
            revisions = await self._guarded(lambda: self._ledger.put_all(puts))
            self._note(writing, puts, revisions)
            return None
        entry = writing.entry
        intent: Intent = await self._guarded(lambda: self._ledger.commit_intent(entry, puts))
        self._note(writing, puts, intent.revisions)
        self.head = Head(intent.record.sequence, intent.record.hash)
        return intent.record

    def _note(self, writing: Writing, puts: Sequence[Put], revisions: Sequence[int]) -> None:
        for put, revision in zip(puts, revisions, strict=True):
            if put.kind is Kind.ROLLOUT:
                writing.revisions.rollout = revision
            else:
                writing.revisions.evidence = revision

    async def _guarded(self, call: Callable[[], T]) -> T:
        """Rule 4."""
        try:
            answer = await asyncio.to_thread(call)
        except StoreConflict:
            raise
        except StoreError as error:
            self.failures += 1
            if not self.problem:
                log.warning("the store refuses: %s", error)
            self.problem = f"the store refuses, so that only rollbacks take effect: {error}"
            raise
        if self.problem:
            log.info("the store works again")
        self.problem = ""
        return answer
