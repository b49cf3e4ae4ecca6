from __future__ import annotations

import asyncio

import pytest

from router.control.shared import Shared
from tests.unit.control.fakes import FakeClock

pytestmark = pytest.mark.anyio


async def test_one_question_for_all_who_ask_while_it_is_fresh() -> None:
    clock = FakeClock()
    asked: list[str] = []

    async def make(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0)
        return key.upper()

    shared = Shared(make, clock, fresh=5.0, at_a_time=4)
    assert tuple(await asyncio.gather(shared.get("a"), shared.get("a"), shared.get("b"))) == ("A", "A", "B")
    assert sorted(asked) == ["a", "b"]
    clock.advance(4.9)
    await shared.get("a")
    assert sorted(asked) == ["a", "b"]
    clock.advance(0.2)
    await shared.get("a")
    assert sorted(asked) == ["a", "a", "b"]
    assert len(shared._answers) == 1
    await shared.close()


async def test_a_failure_reaches_all_who_asked() -> None:
    async def make(key: str) -> str:
        raise OSError(key)

    shared = Shared(make, FakeClock(), fresh=5.0, at_a_time=4)
    answers = await asyncio.gather(shared.get("a"), shared.get("a"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["a", "a"]
    await shared.close()


async def test_who_stops_waiting_does_not_stop_the_others() -> None:
    release = asyncio.Event()

    async def make(key: str) -> str:
        await release.wait()
        return key

    shared = Shared(make, FakeClock(), fresh=5.0, at_a_time=4)
    first = asyncio.ensure_future(shared.get("a"))
    second = asyncio.ensure_future(shared.get("a"))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == "a"
    await shared.close()
