from __future__ import annotations

import asyncio

import pytest

from router.control.controller import Saved
from router.control.keeper import Keeper, pin_key
from router.control.needs import LoadNeed
from router.control.pins import Pin
from router.store.base import LastGood
from tests.unit.control.fakes import FakeClock, MemoryStore, until

pytestmark = pytest.mark.anyio
NEED = LoadNeed("fraud", "models:/fraud@champion")
PIN = Pin("k", {"resolved": "models:/fraud/3"}, "d")


async def test_what_is_kept_is_recalled() -> None:
    store = MemoryStore()
    keeper = Keeper(store, FakeClock())
    keeper.save(Saved("fraud", f"text with {NEED.uri}", "digest"))
    keeper.pin(NEED, PIN)
    keeper.admit("d4", "fraud", "v4")
    await keeper.flush()
    recalled = await Keeper(store, FakeClock()).recall()
    assert recalled.last_good == {"fraud": (f"text with {NEED.uri}", "digest")}
    assert recalled.pin_of(NEED) == PIN
    assert recalled.admitted == {"d4"}


async def test_a_pin_whose_uri_left_the_config_is_not_used_again() -> None:
    store = MemoryStore(
        goods={"fraud": LastGood("text", "digest", 0.0)}, kept_pins={pin_key(NEED): '{"key":"k","resolved":{}}'}
    )
    assert (await Keeper(store, FakeClock()).recall()).pin_of(NEED) is None


async def test_forgetting_replaces_a_save_that_waits() -> None:
    store = MemoryStore()
    keeper = Keeper(store, FakeClock())
    keeper.save(Saved("fraud", "text", "digest"))
    keeper.forget("fraud")
    await keeper.flush()
    assert store.goods == {}


async def test_a_store_that_refuses_is_tried_again_and_loses_nothing() -> None:
    store = MemoryStore(broken=True)
    clock = FakeClock()
    keeper = Keeper(store, clock)
    working = asyncio.create_task(keeper.work())
    keeper.save(Saved("fraud", "one", "1"))
    await until(lambda: "the disk is full" in keeper.problem, clock=clock)
    keeper.save(Saved("fraud", "two", "2"))
    keeper.admit("d4", "fraud", "v4")
    store.broken = False
    await until(lambda: store.admissions == {"d4"}, clock=clock)
    assert store.goods["fraud"].text == "two"
    assert keeper.problem == ""
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_store_that_cannot_be_read_is_as_empty_and_says_so_until_it_can() -> None:
    store, clock = MemoryStore(broken=True), FakeClock()
    keeper = Keeper(store, clock)
    assert (await keeper.recall()).last_good == {}
    assert "cannot be read, and no canary gets weight" in keeper.problem
    working = asyncio.create_task(keeper.work())
    await until(lambda: clock.now > 1_020, clock=clock)
    assert "cannot be read" in keeper.problem
    store.broken = False
    await until(lambda: keeper.problem == "", clock=clock)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_what_no_config_names_is_dropped_once_the_store_writes() -> None:
    store = MemoryStore(
        kept_pins={pin_key(NEED): "{}", "fraud models:/old/1": "{}"}, admissions={"d3", "d4"}, broken=True
    )
    keeper = Keeper(store, FakeClock())
    keeper.tidy([NEED], ["d4"])
    await keeper.flush()
    assert "cannot write" in keeper.problem
    store.broken = False
    await keeper.flush()
    assert set(store.kept_pins) == {pin_key(NEED)}
    assert store.admissions == {"d4"}
    assert keeper.problem == ""
