"""Who changed each model last, as the audit trail says.

Rules:
1. The trail is read once, from its end as far as `MOST` entries back, and followed from there.
2. A trail that cannot be read leaves what is known.
"""

from __future__ import annotations

import asyncio

from router.control.recorder import Recorder
from router.store.audit import AuditRecord
from router.store.base import StoreError

MOST = 20_000
PAGE = 1000


class Changes:
    """The newest entry about each model."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._seen: int | None = None
        self._last: dict[str, AuditRecord] = {}
        self._turn = asyncio.Lock()

    def of(self, model: str) -> AuditRecord | None:
        """The newest entry about `model`; None where none is known."""
        return self._last.get(model)

    async def follow(self) -> None:
        """Reads what is new in the trail."""
        async with self._turn:
            head = self._recorder.head
            if head is None:
                return
            if self._seen is None:
                self._seen = max(0, head.sequence - MOST)
            while self._seen < head.sequence:
                try:
                    records, _ = await self._recorder.trail(None, self._seen, PAGE)
                except StoreError:
                    return
                if not records:
                    return
                for record in records:
                    self._last[record.entry.model] = record
                self._seen = records[-1].sequence
