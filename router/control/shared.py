"""Answers that many ask for and one fetches.

Rules:
1. Who asks while the answer is on its way, or while it is fresh, gets the same one.
2. Memory holds fresh answers only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from router.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Answers of `make`, each good for `fresh` seconds; at most `at_a_time` on their way."""

    def __init__(self, make: Callable[[K], Awaitable[V]], clock: Clock, *, fresh: float, at_a_time: int) -> None:
        self._make = make
        self._clock = clock
        self._fresh = fresh
        self._turn = asyncio.Semaphore(at_a_time)
        self._answers: dict[K, tuple[float, asyncio.Task[V]]] = {}
        self._forgot_at = clock.monotonic()

    async def get(self, key: K) -> V:
        """The answer for `key`; raises what `make` raised."""
        now = self._clock.monotonic()
        known = self._answers.get(key)
        if known is None or (known[1].done() and now - known[0] >= self._fresh):
            self._forget_old(now)
            known = (now, asyncio.create_task(self._ask(key)))
            self._answers[key] = known
        return await asyncio.shield(known[1])

    async def _ask(self, key: K) -> V:
        async with self._turn:
            return await self._make(key)

    def _forget_old(self, now: float) -> None:
        if now - self._forgot_at < self._fresh:
            return
        self._forgot_at = now
        for key, (since, task) in list(self._answers.items()):
            if task.done() and now - since >= self._fresh:
                if not task.cancelled():
                    task.exception()
                del self._answers[key]

    async def close(self) -> None:
        """Cancels what is on its way."""
        tasks = [task for _, task in self._answers.values()]
        self._answers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
