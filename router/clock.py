"""The time, as something that can be handed in.

Rules:
1. Outside the data plane's loop this is the only place that asks what time it is.
2. Durations and deadlines use `monotonic`; `wall` is for showing to people and for records.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the control side may ask about time. Unit: seconds."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never jumps."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds` of monotonic time."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def wall(self) -> float:
        """See `Clock.wall`."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)
