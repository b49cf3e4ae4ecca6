from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from router.web.dashboard.live import EVERY_SECONDS, LOOK_SECONDS, MOST, Live, Tab
from tests.unit.control.fakes import FakeClock

pytestmark = pytest.mark.anyio


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def heard(stream: AsyncIterator[bytes]) -> str:
    return (await asyncio.wait_for(anext(stream), 5)).decode()


async def close(*streams: AsyncIterator[bytes]) -> None:
    for stream in streams:
        await cast("asyncio.Future[None]", stream.aclose())  # type: ignore[attr-defined]  # every generator has it


async def test_tabs_share_one_view_and_hear_only_what_changed() -> None:
    clock, made, text, decided = FakeClock(), [0], ["a <b>\nc"], [0]
    live = Live(clock, lambda: decided[0])

    def make() -> dict[str, str]:
        made[0] += 1
        return {"head": text[0], "rest": "same"}

    tabs = [live.follow("m", make) for _ in range(3)]
    for tab in tabs:
        assert "retry:" in await heard(tab)
        assert await heard(tab) == "event: head\ndata: a <b>\ndata: c\n\nevent: rest\ndata: same\n\n"
    work = asyncio.create_task(live.work())
    await turns()
    text[0], made[0] = "news", 0
    waiting = [asyncio.create_task(heard(tab)) for tab in tabs]
    clock.advance(EVERY_SECONDS)
    assert await asyncio.gather(*waiting) == ["event: head\ndata: news\n\n"] * 3
    assert made == [1]
    decided[0], text[0] = 1, "rolled back"
    waiting = [asyncio.create_task(heard(tab)) for tab in tabs]
    await turns()
    clock.advance(LOOK_SECONDS)
    assert set(await asyncio.gather(*waiting)) == {"event: head\ndata: rolled back\n\n"}
    await close(*tabs)
    assert (live.tabs, live._views) == (0, {})
    work.cancel()


async def test_a_view_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    live = Live(FakeClock(), lambda: 0)

    def broken() -> dict[str, str]:
        raise RuntimeError("no")

    tab = live.follow("m", broken)
    await heard(tab)
    assert await heard(tab) == ": still here\n\n"
    assert "could not be made" in caplog.text
    await close(tab)


async def test_too_many_are_refused_and_the_end_ends_all() -> None:
    live = Live(FakeClock(), lambda: 0)
    tabs = [live.follow("m", lambda: {"a": "b"}) for _ in range(MOST)]
    for tab in tabs:
        await heard(tab)
    assert live.full
    live.close()
    assert [chunk async for chunk in tabs[0]] == []
    await close(*tabs[1:])


def test_a_tab_keeps_the_newest_alone() -> None:
    tab = Tab()
    for number in range(1000):
        tab.put({"head": str(number)})
    assert tab.take() == b"event: head\ndata: 999\n\n"
    assert tab.take() == b""
