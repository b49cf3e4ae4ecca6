"""Deadlines of many connections on one coarse wheel, and long work in steps.

Rules:
1. One entry per connection, however many requests it carries: a later deadline than the entry's costs nothing,
   the entry moves only when it comes up.
2. A deadline is acted on at most one tick after it passed, never before.
3. An idle wheel has no timer running.
4. A connection that closes leaves its slot at once: a wheel must not keep closed connections alive.
5. Work that takes longer than a step lets the loop go on in between, so that requests wait for one step at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

TICK = 0.025
SPAN = 512
NEVER = float("inf")
STEP = 0.001
"""How long work beside the requests may hold them up at a time, in seconds."""


class Timed(Protocol):
    """Something with a deadline. `due` is when the wheel looks at it next; only the wheel sets it."""

    due: float

    def next_deadline(self) -> float:
        """When it has to be expired, in monotonic seconds; `NEVER` for not at all."""
        ...

    def expire(self, now: float) -> None:
        """Its deadline has passed."""
        ...


class Wheel:
    """512 slots of 25 ms; what lies further ahead than that is looked at once on the way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._slots: list[set[Timed]] = [set() for _ in range(SPAN)]
        self._at = int(clock() / TICK)
        self._count = 0
        self._running = False

    def __len__(self) -> int:
        return self._count

    def watch(self, timed: Timed, deadline: float) -> None:
        """Makes sure that `timed` is looked at no later than one tick after `deadline`."""
        if timed.due <= deadline:
            return
        if timed.due != NEVER:
            self.forget(timed)
        if not self._running:
            self._running = True
            self._at = int(self._clock() / TICK)
            self._loop.call_later(TICK, self._turn)
        tick = min(max(int(deadline / TICK), self._at) + 1, self._at + SPAN - 1)
        timed.due = tick * TICK
        self._slots[tick % SPAN].add(timed)
        self._count += 1

    def forget(self, timed: Timed) -> None:
        """Takes `timed` off the wheel."""
        if timed.due != NEVER:
            self._slots[round(timed.due / TICK) % SPAN].discard(timed)
            timed.due = NEVER
            self._count -= 1

    def _turn(self) -> None:
        now = self._clock()
        reached = int(now / TICK)
        # After a pause of more than a whole turn every slot is overdue once.
        for tick in range(max(self._at + 1, reached - SPAN + 1), reached + 1):
            slot = self._slots[tick % SPAN]
            if slot:
                self._slots[tick % SPAN] = set()
                self._count -= len(slot)
                for timed in slot:
                    timed.due = NEVER
                self._at = tick
                for timed in slot:
                    self._look_at(timed, now)
        self._at = reached
        if self._count:
            self._loop.call_later(TICK, self._turn)
        else:
            self._running = False

    def _look_at(self, timed: Timed, now: float) -> None:
        deadline = timed.next_deadline()
        if deadline <= now:
            timed.expire(now)
            deadline = timed.next_deadline()
        if deadline != NEVER:
            self.watch(timed, deadline)


class Steps:
    """Work in steps of a millisecond: await `pause` often, it nearly always returns at once."""

    def __init__(self) -> None:
        self._until = monotonic() + STEP

    async def pause(self) -> None:
        """Lets the loop go on if the step has taken its time (rule 5)."""
        if monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = monotonic() + STEP
