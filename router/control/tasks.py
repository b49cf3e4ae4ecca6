"""Tasks that run for as long as something is wanted.

Rules:
1. A task that fails in a way nobody foresaw is logged with its traceback, and started again where it must not end.
2. Closing cancels all and waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from router.clock import Clock

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0


class Tasks:
    """A set of named tasks; one per key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[object, asyncio.Task[None]] = {}

    def start(self, key: object, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Runs `work` under `key`, again after an unforeseen failure; nothing where `key` runs already."""
        running = self._tasks.get(key)
        if running is None or running.done():
            self._tasks[key] = asyncio.create_task(self._keep(key, work), name=str(key))

    def stop(self, key: object) -> None:
        """Cancels what runs under `key`."""
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    async def _keep(self, key: object, work: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            try:
                return await work()
            except Exception:  # rule 1: the last line of defence, or control would go on without this part of it
                log.exception("%s failed in a way that was not foreseen; it starts again", key)
                await self._clock.sleep(RESTART_SECONDS)

    async def close(self) -> None:
        """Rule 2."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
