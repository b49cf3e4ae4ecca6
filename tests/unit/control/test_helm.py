"""Decisions on their way into force: written first, but for a rollback, which nothing holds up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from router.control.enactor import Place
from router.control.helm import Done, Helm, NotApplicableError, UnknownCanaryError, Wish
from router.control.recorder import Revisions, Writing
from router.control.tasks import Tasks
from router.core.rollout_state import CommandName
from router.core.snapshot import Endpoint, VersionFacts
from router.store.base import Kind, StoreFull, Versioned
from tests.unit.control.fakes import FakeClock, MemoryLedger, until
from tests.unit.control.test_steering import ROLLOUT, config

pytestmark = pytest.mark.anyio


class Bridge:
    """A helm over a ledger in memory; `applied` has what was put in force, in order."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.clock = FakeClock()
        self.applied: list[str] = []
        self.helm = Helm(("default",), ledger, (), self.clock, apply=self._apply, place=lambda model: Place("rev", "d"))
        self.tasks = Tasks(self.clock)

    def _apply(self, models: Collection[str]) -> None:
        self.applied += models

    def see(self) -> None:
        """The config was read."""
        ready = VersionFacts("ready", (Endpoint("tcp", "127.0.0.1", 1),), "d")
        made = config(rollout=ROLLOUT)
        self.helm.steering.configure(made, {(name, "default"): ready for name in made.versions})
        self.helm.act()

    @property
    def weight(self) -> int:
        return self.helm.steering.canaries("fraud")["v4"].weight("default")

    @property
    def weight_or_none(self) -> int | None:
        return self.weight if "v4" in self.helm.steering.canaries("fraud") else None

    @property
    def actions(self) -> list[str]:
        return [record.entry.action for record in self.ledger.records]

    async def command(self, name: CommandName, **more: object) -> Done:
        return await self.helm.command(Wish("fraud", name, "alice", **more))  # type: ignore[arg-type]  # a test's own


@asynccontextmanager
async def bridge(ledger: MemoryLedger | None = None) -> AsyncIterator[Bridge]:
    made = Bridge(ledger or MemoryLedger())
    await made.helm.recall()
    made.helm.start(made.tasks)
    made.see()
    await until(lambda: made.weight == 1000)
    try:
        yield made
    finally:
        await made.tasks.close()
        await made.helm.close()


async def test_a_command_is_written_and_then_in_force() -> None:
    async with bridge() as at:
        await at.command("promote", reason="looks good")
        assert (at.weight, at.actions) == (2000, ["start", "promote"])
        entry = at.ledger.records[-1].entry
        assert (entry.actor, entry.reason, entry.revision, entry.region) == ("alice", "looks good", "rev", "default")
        assert (entry.before["weights"], entry.after["weights"]) == ({"default": 10.0}, {"default": 20.0})


async def test_where_the_store_refuses_nothing_changes_but_a_rollback() -> None:
    async with bridge() as at:
        at.ledger.broken = True
        with pytest.raises(StoreFull):
            await at.command("promote")
        assert at.weight == 1000
        await at.command("rollback", reason="on call")
        assert (at.weight, at.actions, at.helm.recorder.outstanding) == (0, ["start"], 1)
        assert at.applied[-1] == "fraud"
        with pytest.raises(StoreFull):
            await at.command("readmit")
        assert "the disk is full" in at.helm.recorder.problem
        at.ledger.broken = False
        await until(lambda: not at.helm.recorder.outstanding, clock=at.clock)
        assert at.actions == ["start", "rollback"]
        assert at.helm.recorder.problem == ""
        await at.command("readmit")
        assert (at.weight, at.actions) == (1000, ["start", "rollback", "readmit"])


async def test_a_slow_store_holds_up_no_rollback() -> None:
    async with bridge() as at:
        at.ledger.held = threading.Event()
        before = asyncio.get_running_loop().time()
        await at.command("rollback")
        assert asyncio.get_running_loop().time() - before < 1.0
        assert (at.weight, at.applied[-1]) == (0, "fraud")
        at.ledger.held.set()
        await until(lambda: at.actions == ["start", "rollback"])


async def test_a_rollback_overtakes_a_promotion_that_is_being_written() -> None:
    async with bridge() as at:
        at.ledger.held = threading.Event()
        promotion = asyncio.create_task(at.command("promote"))
        await until(lambda: at.helm.steering.canaries("fraud")["v4"].under_way is not None)
        with pytest.raises(NotApplicableError, match="came second"):
            await at.command("pause")
        await at.command("rollback")
        assert at.weight == 0
        at.ledger.held.set()
        with pytest.raises(NotApplicableError, match="came second"):
            await promotion
        await until(lambda: at.actions == ["start", "promote", "rollback"])
        assert at.weight == 0
        stored = at.ledger.rollouts()["fraud", "v4"].value
        assert b"rolled_back" in stored


async def test_somebody_elses_change_is_taken_over() -> None:
    async with bridge() as at:
        known = at.ledger.states[Kind.ROLLOUT, "fraud", "v4"]
        paused = known.value.replace(b'"holding"', b'"paused"')
        at.ledger.states[Kind.ROLLOUT, "fraud", "v4"] = Versioned(paused, 99)
        with pytest.raises(NotApplicableError, match="came second") as refused:
            await at.command("promote")
        assert refused.value.canary is not None
        assert refused.value.canary.state is not None
        assert refused.value.canary.state.phase == "paused"
        await at.command("resume")
        assert at.actions == ["start", "resume"]


async def test_what_there_is_not_cannot_be_steered() -> None:
    async with bridge() as at:
        with pytest.raises(UnknownCanaryError, match="v3 is no canary"):
            await at.command("promote", version="v3")
        with pytest.raises(UnknownCanaryError, match="no region moon"):
            await at.command("promote", region="moon")
        with pytest.raises(NotApplicableError, match="nothing waits for approval"):
            await at.command("approve")
        at.helm.steering.forget("fraud")
        with pytest.raises(NotApplicableError, match="no canary now"):
            await at.command("promote")


async def test_evidence_is_kept_a_moment_after_it_changed() -> None:
    async with bridge() as at:
        canary = at.helm.steering.canaries("fraud")["v4"]
        canary.dirty = True
        await until(lambda: (Kind.EVIDENCE, "fraud", "v4") in at.ledger.states, clock=at.clock)
        await until(lambda: not canary.dirty, clock=at.clock)
        assert at.actions == ["start"]


async def test_a_store_that_cannot_be_read_is_read_later() -> None:
    ledger = MemoryLedger(unreadable=True)
    at = Bridge(ledger)
    assert await at.helm.recall() is None
    at.helm.start(at.tasks)
    at.see()
    assert at.weight_or_none is None
    ledger.unreadable = False
    await until(lambda: at.applied == ["fraud"], clock=at.clock)
    at.see()
    await until(lambda: at.weight_or_none == 1000)
    await at.tasks.close()
    await at.helm.close()


async def test_a_rollback_that_was_written_although_the_store_said_no_is_told_once() -> None:
    async with bridge() as at:
        recorder = at.helm.recorder
        done = await at.command("rollback")
        record = done.record
        assert record is not None
        canary = at.helm.steering.canaries("fraud")["v4"]
        stale = Writing("fraud", "v4", Revisions(1, 0), at.ledger.rollouts()["fraud", "v4"].value, None, record.entry)
        assert await recorder.owe(stale) == record
        assert at.actions == ["start", "rollback"]
        assert canary.rolled_back
