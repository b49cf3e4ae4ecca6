"""The wheel, on a clock and a loop that stand still until told."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.timers import NEVER, SPAN, STEP, TICK, Steps, Wheel


class FakeLoop:
    """A loop whose time moves only by `advance`. `timers` says how many calls are due."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, int, Callable[[], None]]] = []
        self.made = 0

    @property
    def timers(self) -> int:
        return len(self.calls)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.made += 1
        heapq.heappush(self.calls, (self.now + seconds, self.made, call))

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self.calls and self.calls[0][0] <= until:
            self.now, _, call = heapq.heappop(self.calls)
            call()
        self.now = until

    def jump(self, seconds: float) -> None:
        """Time passes while nothing runs, as when the machine was suspended."""
        self.now += seconds


class Thing:
    """Something with a deadline; `expired` are the times at which it was told so."""

    def __init__(self, deadline: float = NEVER, then: float = NEVER) -> None:
        self.due = NEVER
        self.deadline = deadline
        self.then = then
        self.expired: list[float] = []

    def next_deadline(self) -> float:
        return self.deadline

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.deadline = self.then


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def wheel(loop: FakeLoop) -> Wheel:
    return Wheel(cast("Any", loop), lambda: loop.now)


@given(seconds=st.floats(0, 60), start=st.floats(0, 1e6))
def test_a_deadline_is_acted_on_within_two_ticks_and_never_before(seconds: float, start: float) -> None:
    loop = FakeLoop()
    loop.now = start
    wheel = Wheel(cast("Any", loop), lambda: loop.now)
    thing = Thing(start + seconds)

    wheel.watch(thing, thing.deadline)
    loop.advance(seconds + 1)

    (when,) = thing.expired
    assert thing.deadline == NEVER
    assert start + seconds <= when <= start + seconds + 2 * TICK + 1e-6
    assert len(wheel) == 0


def test_a_later_deadline_does_not_move_the_entry(loop: FakeLoop, wheel: Wheel) -> None:
    thing = Thing(loop.now + 1)
    wheel.watch(thing, thing.deadline)
    entry = thing.due

    for _ in range(10):
        thing.deadline += 1
        wheel.watch(thing, thing.deadline)

    assert thing.due == entry
    assert len(wheel) == 1
    loop.advance(10.9)
    assert thing.expired == []
    loop.advance(0.2)
    assert len(thing.expired) == 1


def test_an_earlier_deadline_moves_it(loop: FakeLoop, wheel: Wheel) -> None:
    thing = Thing(loop.now + 5)
    wheel.watch(thing, thing.deadline)
    thing.deadline = loop.now + 1
    wheel.watch(thing, thing.deadline)

    assert len(wheel) == 1
    loop.advance(1.1)
    assert len(thing.expired) == 1


def test_a_deadline_beyond_the_wheel_is_looked_at_on_the_way(loop: FakeLoop, wheel: Wheel) -> None:
    thing = Thing(loop.now + 3 * SPAN * TICK)
    wheel.watch(thing, thing.deadline)

    loop.advance(3 * SPAN * TICK - 0.1)
    assert thing.expired == []
    loop.advance(0.2)
    assert len(thing.expired) == 1


def test_an_idle_wheel_has_no_timer(loop: FakeLoop, wheel: Wheel) -> None:
    assert loop.timers == 0
    wheel.watch(Thing(), NEVER)
    assert (len(wheel), loop.timers) == (0, 0)

    first = Thing(loop.now + 0.1)
    wheel.watch(first, first.deadline)
    assert loop.timers == 1
    loop.advance(1)
    assert loop.timers == 0

    second = Thing(loop.now + 0.1)
    wheel.watch(second, second.deadline)
    loop.advance(1)
    assert len(second.expired) == 1


def test_what_is_forgotten_leaves_at_once(loop: FakeLoop, wheel: Wheel) -> None:
    thing = Thing(loop.now + 1)
    wheel.watch(thing, thing.deadline)

    wheel.forget(thing)
    wheel.forget(thing)

    assert (len(wheel), thing.due) == (0, NEVER)
    assert not any(wheel._slots)
    loop.advance(2)
    assert thing.expired == []


def test_a_thing_may_have_a_next_deadline(loop: FakeLoop, wheel: Wheel) -> None:
    thing = Thing(loop.now + 1, then=loop.now + 2)
    wheel.watch(thing, thing.deadline)

    loop.advance(3)

    assert len(thing.expired) >= 2
    assert thing.expired[1] >= 1002.0


def test_a_thing_may_forget_another_while_both_are_due(loop: FakeLoop, wheel: Wheel) -> None:
    things: list[Thing] = []

    class Closing(Thing):
        def expire(self, now: float) -> None:
            super().expire(now)
            for other in things:
                if other is not self:
                    other.deadline = NEVER
                    wheel.forget(other)

    things += [Closing(loop.now + 1), Closing(loop.now + 1)]
    for thing in things:
        wheel.watch(thing, thing.deadline)
    loop.advance(2)

    assert sum(len(thing.expired) for thing in things) == 1
    assert len(wheel) == 0


def test_after_a_long_pause_everything_overdue_is_looked_at_once(loop: FakeLoop, wheel: Wheel) -> None:
    things = [Thing(loop.now + number * 0.4) for number in range(30)]
    for thing in things:
        wheel.watch(thing, thing.deadline)

    loop.jump(100.0)
    loop.advance(TICK)

    assert [len(thing.expired) for thing in things] == [1] * 30
    assert len(wheel) == 0


# -- steps


@pytest.mark.anyio
async def test_work_in_steps_lets_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("router.dataplane.timers.monotonic", lambda: now)
    others: list[str] = []
    steps = Steps()
    asyncio.get_running_loop().call_soon(others.append, "ran")

    now += STEP / 2
    await steps.pause()
    assert not others, "the step is not over"
    now += STEP
    await steps.pause()
    assert others == ["ran"]
    asyncio.get_running_loop().call_soon(others.append, "ran again")
    await steps.pause()
    assert others == ["ran"], "the next step has only begun"
