"""The worker's link to control.

Rules:
1. The data plane never waits for control: a link that is down is tried again, and requests go on meanwhile.
2. Snapshots are read and applied in small steps with the loop free in between, and model by model.
3. A snapshot that does not fit on the one held is answered with a new `Hello`, and a whole one follows.
4. The snapshot that a restarted worker finds on disk gives canaries no weight: control may know of a rollback.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute, RegionRoute
from router.core.split import lay_out
from router.core.wire import MAX_FRAME, Applied, Hello, SnapshotUpdate, decode, encode, read_snapshot

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.2
MAX_UNSENT = 4 * 1024 * 1024


class Link:
    """Keeps a connection to control's socket: snapshots come in, batches go out."""

    def __init__(self, path: Path, worker: int, pid: int, apply: Callable[[SnapshotUpdate], Awaitable[None]]) -> None:
        self._path = path
        self._worker = worker
        self._pid = pid
        self._apply = apply
        self._writer: asyncio.StreamWriter | None = None
        self.sequence = 0

    @property
    def up(self) -> bool:
        """Whether control can be told something now."""
        writer = self._writer
        return writer is not None and writer.transport.get_write_buffer_size() < MAX_UNSENT

    def send(self, batch: OutcomeBatch) -> None:
        """Sends a batch; call only while `up`."""
        if self._writer is not None:
            self._writer.write(encode(batch))

    async def run(self) -> None:
        """Connects, and connects again, for ever."""
        while True:
            try:
                await self._talk()
            except (OSError, EOFError, msgspec.MsgspecError) as error:
                log.debug("link to control is down: %s", error)
            finally:
                self._writer = None
            await asyncio.sleep(RETRY_SECONDS)

    async def _talk(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        try:
            writer.write(encode(Hello(self._worker, self._pid, self.sequence)))
            self._writer = writer
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > MAX_FRAME:
                    raise EOFError(f"control announced a frame of {length} bytes")
                message = decode(await reader.readexactly(length))
                if isinstance(message, SnapshotUpdate):
                    await self._take(message, writer)
        finally:
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _take(self, update: SnapshotUpdate, writer: asyncio.StreamWriter) -> None:
        if update.base is not None and update.base != self.sequence:
            writer.write(encode(Hello(self._worker, self._pid, self.sequence)))
            return
        try:
            await self._apply(update)
        except Exception as error:  # one snapshot that cannot be made live must not cut the worker off for good
            log.exception("snapshot %d cannot be applied; serving on with %d", update.sequence, self.sequence)
            raise EOFError("a snapshot cannot be applied") from error
        self.sequence = update.sequence
        writer.write(encode(Applied(self._worker, update.sequence)))


def read_kept(path: Path) -> SnapshotUpdate | None:
    """The snapshot that control left on disk, with stable having everything (rule 4); None without one."""
    try:
        kept = read_snapshot(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    if kept is None:
        return None
    models = {name: _stable_only(model) for name, model in kept.models.items()}
    return SnapshotUpdate(0, None, models)


def _stable_only(model: ModelRoute) -> ModelRoute:
    return msgspec.structs.replace(
        model, regions={name: _all_to_stable(region) for name, region in model.regions.items()}
    )


def _all_to_stable(region: RegionRoute) -> RegionRoute:
    targets = tuple(
        msgspec.structs.replace(target, weight=10_000 if index == region.stable else 0)
        for index, target in enumerate(region.targets)
    )
    return msgspec.structs.replace(region, targets=targets, slots=lay_out(region.stable, ()))
