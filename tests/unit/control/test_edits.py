"""Configs are audited before they take effect, once, and wait while that cannot be."""

from __future__ import annotations

import pytest

from router.config.problems import Problem
from router.config.schema import ModelConfig, Version
from router.control.edits import Edits
from router.control.recorder import Recorder
from router.control.reload import Change
from tests.unit.control.fakes import FakeClock, MemoryLedger

pytestmark = pytest.mark.anyio

URLS = {"default": ("http://v",)}


def config(canary: int) -> ModelConfig:
    return ModelConfig(
        model="fraud",
        versions={"v3": Version(upstreams=URLS), "v4": Version(upstreams=URLS)},
        stable={"default": "v3"},
        regions={"default": {"v3": 10_000 - canary, "v4": canary}},
    )


def change(canary: int) -> Change:
    return Change("fraud", config(canary), "text", f"digest {canary}")


class Desk:
    """Edits in front of a ledger, and what is in force."""

    def __init__(self, ledger: MemoryLedger | None = None) -> None:
        self.ledger = ledger or MemoryLedger()
        self.force: dict[str, ModelConfig] = {}
        self.edits = Edits(
            Recorder(self.ledger, FakeClock()),
            FakeClock(),
            ("default",),
            in_force=self.force.get,
            revision=lambda: "rev",
        )
        self.edits.recall(self.ledger.rollouts())

    async def see(self, *changes: Change) -> list[Change]:
        """What takes effect of `changes`."""
        out = [each async for batch in self.edits.audited(changes) for each in batch]
        for each in out:
            if each.config is not None:
                self.force[each.model] = each.config
        return out

    @property
    def actions(self) -> list[str]:
        return [record.entry.action for record in self.ledger.records]


async def test_a_change_is_audited_with_what_was_before_and_after() -> None:
    desk = Desk()
    assert await desk.see(change(1000)) == [change(1000)]
    await desk.see(change(2000))
    first, second = (record.entry for record in desk.ledger.records)
    assert (first.actor, first.before, first.after["weights"]) == ("config", {}, {"default": {"v3": 90.0, "v4": 10.0}})
    assert second.before["weights"] == {"default": {"v3": 90.0, "v4": 10.0}}
    assert (second.before["digest"], second.digest, second.revision) == ("digest 1000", "digest 2000", "rev")


async def test_a_restart_and_a_broken_file_change_nothing() -> None:
    desk = Desk()
    await desk.see(change(1000))
    problem = Problem("f", 1, 1, "", "odd", "fraud")
    again = Desk(desk.ledger)
    assert await again.see(change(1000)) == [change(1000)]
    broken = Change("fraud", problems=(problem,))
    assert await again.see(broken) == [broken]
    assert desk.actions == ["config"]


async def test_a_model_that_is_removed_and_comes_back_is_told_each_time() -> None:
    desk = Desk()
    for each in (change(1000), Change("fraud", removed=True), change(1000)):
        assert await desk.see(each) == [each]
    assert desk.actions == ["config", "remove", "config"]
    assert await desk.see(Change("unknown", removed=True)) == [Change("unknown", removed=True)]
    assert len(desk.actions) == 3


async def test_while_the_store_refuses_what_is_in_force_goes_on_and_says_why() -> None:
    desk = Desk()
    await desk.see(change(1000))
    desk.ledger.broken = True
    (held,) = await desk.see(change(2000))
    assert held.config is None
    assert "the disk is full" in held.problems[0].message
    (still,) = await desk.see()
    assert still.config is None
    desk.ledger.broken = False
    assert await desk.see() == [change(2000)]
    assert await desk.see() == []
    assert desk.actions == ["config", "config"]


async def test_a_model_that_is_served_nowhere_is_served_and_audited_later() -> None:
    desk = Desk()
    desk.ledger.broken = True
    assert await desk.see(change(1000)) == [change(1000)]
    desk.ledger.broken = False
    await desk.see()
    assert desk.actions == ["config"]


async def test_an_entry_that_was_written_although_the_store_said_no_is_not_written_twice() -> None:
    desk = Desk()
    other = Desk(desk.ledger)
    await other.see(change(1000))
    assert await desk.see(change(1000)) == [change(1000)]
    assert desk.actions == ["config"]


async def test_many_changes_come_in_batches() -> None:
    desk = Desk()
    many = [Change(f"m{number}", config(1000), "text", "d") for number in range(70)]
    sizes = [len(batch) async for batch in desk.edits.audited(many)]
    assert sizes == [32, 32, 6]
