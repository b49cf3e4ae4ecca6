"""Waiting for a condition with a deadline, never for a length of time in the hope that it suffices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

EVERY = 0.02


def eventually(condition: Callable[[], T], deadline: float = 15.0, what: str = "") -> T:
    """The first true value of `condition`, which is asked again and again for `deadline` seconds.

    Raises:
        AssertionError: it never became true; tells `what` was waited for and the last value.
    """
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline} s: {what or condition}; last: {value!r}"
        time.sleep(EVERY)


async def eventually_async(condition: Callable[[], T], deadline: float = 15.0, what: str = "") -> T:
    """`eventually`, on an event loop."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline} s: {what or condition}; last: {value!r}"
        await asyncio.sleep(EVERY)
