"""Puts decisions in force: the intent is audited, then the snapshot is applied.

Rules:
1. What was not written takes no effect: the audit record and the state it leads to are durable first.
2. But a rollback is in force at once in memory, and reaches the workers after `FIRST_SECONDS` at the latest, whatever
   the store does; it is written as soon as the store takes it.
3. A step that something else overtook while it was written takes no effect, and whoever asked for it is told.
4. People are told after it took effect; nobody waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from router.clock import Clock
from router.control.canary import Canary, Step
from router.control.entries import entry_of, notice_of
from router.control.notify import Notice
from router.control.recorder import Recorder, Writing
from router.core.rollout import decode, encode
from router.store.audit import AuditRecord
from router.store.base import StoreConflict, StoreError

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.1
AGAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Which config a decision is made under: the repository's revision and the model's digest."""

    revision: str
    digest: str


class OvertakenError(Exception):
    """Something else of the same canary came first (rule 3)."""


class Enactor:
    """Writes and applies steps. `apply` puts a model's weights in force, `place` says under which config it is."""

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        *,
        apply: Callable[[str], None],
        place: Callable[[str], Place],
        tell: Callable[[Notice], None],
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._apply = apply
        self._place = place
        self._tell = tell
        self._tasks: set[asyncio.Task[object]] = set()
        self._refused_at = float("-inf")
        self.rollbacks: dict[tuple[str, str, str, str], int] = {}

    def start(self, step: Step) -> None:
        """Enacts what the router decided by itself; a store that refuses is tried again with the next tick."""
        if not step.at_once and self._clock.monotonic() - self._refused_at < AGAIN_SECONDS:
            step.canary.drop(step)
            return
        task: asyncio.Task[object] = asyncio.create_task(self._by_itself(step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _by_itself(self, step: Step) -> None:
        try:
            await self.enact(step)
        except OvertakenError:
            log.info("%s %s: %s was overtaken", step.canary.model, step.canary.version, step.decision.move)
        except StoreError:
            self._refused_at = self._clock.monotonic()

    async def enact(self, step: Step) -> AuditRecord | None:
        """Writes `step` and puts it in force; its record, None for a rollback that the store has not taken yet.

        Raises:
            OvertakenError: rule 3.
            StoreError: the store refuses, and nothing was changed.
        """
        record = await (self._roll_back(step) if step.at_once else self._advance(step))
        level = logging.WARNING if step.decision.move == "rollback" else logging.INFO
        log.log(level, "model %s: %s", step.canary.model, step.decision.reason)
        self._tell_of(step, record)
        return record

    async def _roll_back(self, step: Step) -> AuditRecord | None:
        """Rule 2."""
        for region in step.canary.identity.canary:
            series = (step.canary.model, step.canary.version, region, step.cause)
            self.rollbacks[series] = self.rollbacks.get(series, 0) + 1
        written = self._recorder.owe(self._writing(step))
        await asyncio.wait({written}, timeout=0.0 if self._recorder.problem else FIRST_SECONDS)
        self._apply(step.canary.model)
        return written.result() if written.done() else None

    async def _advance(self, step: Step) -> AuditRecord | None:
        """Rule 1."""
        canary = step.canary
        try:
            record = await self._recorder.write(
                canary.model, canary.version, lambda: self._writing(step) if canary.under_way is step else None
            )
        except StoreConflict as error:
            canary.drop(step)
            await self._reread(canary)
            raise OvertakenError from error
        except BaseException:
            canary.drop(step)
            raise
        if not canary.take(step):
            raise OvertakenError
        self._apply(canary.model)
        return record

    def _writing(self, step: Step) -> Writing:
        canary = step.canary
        kept = None if step.decision.forgets_evidence else canary.keeps()
        entry = entry_of(step, self._clock.wall(), *self._at(step))
        canary.dirty = step.decision.forgets_evidence
        return Writing(
            canary.model,
            canary.version,
            canary.revisions,
            rollout=encode(step.decision.state),
            evidence=msgspec.msgpack.encode(kept) if kept is not None else None,
            entry=entry,
        )

    def _at(self, step: Step) -> tuple[str, str]:
        place = self._place(step.canary.model)
        return place.revision, place.digest

    async def _reread(self, canary: Canary) -> None:
        """Takes over what somebody else wrote; a rollback in memory stays one."""
        found = await self._recorder.stored(canary.model, canary.version)
        canary.revisions.evidence = found.evidence.revision if found.evidence else 0
        if found.rollout is None:
            canary.revisions.rollout = 0
        elif found.rollout.revision != canary.revisions.rollout:
            canary.revisions.rollout = found.rollout.revision
            if not canary.rolled_back:
                canary.state = decode(found.rollout.value)
                self._apply(canary.model)

    async def save(self, canary: Canary) -> None:
        """Keeps what was gathered and no decision was made on yet."""

        def build() -> Writing | None:
            kept = canary.keeps()
            if canary.under_way is not None or canary.state is None:
                return None
            canary.dirty = False
            return Writing(
                canary.model,
                canary.version,
                canary.revisions,
                rollout=encode(canary.state),
                evidence=msgspec.msgpack.encode(kept) if kept is not None else None,
            )

        try:
            await self._recorder.write(canary.model, canary.version, build)
        except StoreConflict:
            await self._reread(canary)
            canary.dirty = True
        except StoreError:
            canary.dirty = True

    def _tell_of(self, step: Step, record: AuditRecord | None) -> None:
        notice = notice_of(step, self._clock.wall(), record)
        if notice is not None:
            self._tell(notice)

    async def close(self) -> None:
        """Lets what is under way finish, and writes what is owed."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._recorder.flush()
