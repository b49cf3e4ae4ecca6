"""Control's side of workers.sock: snapshots out, outcomes in.

Rules:
1. A worker gets a whole snapshot when it says hello, and from then on only what changed since the last one it was
   sent.
2. Nothing is sent before control has read its state (`publish` was called once): a worker goes on with what it has.
3. A worker that does not read costs bounded memory: over the bound its connection is closed, it comes back and gets
   a whole snapshot. No worker waits for another.
4. What is no frame of a known type closes that connection, and nothing else.
5. Sequence numbers rise over restarts of control: they go on from the highest that a worker has held. The same number
   never stands for two snapshots, so a worker that says hello with ours may hold another control's, and gets a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute
from router.core.wire import Applied, Hello, SnapshotUpdate, decode, encode, pack

log = logging.getLogger(__name__)

MAX_INBOUND = 16 * 1024 * 1024
"""Bytes of the largest frame a worker may send."""

SLACK = 4 * 1024 * 1024
"""Bytes that may wait for one worker, beside one whole snapshot."""


@dataclass(slots=True, eq=False)
class _Connection:
    writer: asyncio.StreamWriter
    worker: int = -1
    pid: int = 0
    sent: int = -1
    applied: int = 0
    whole_size: int = 0

    @property
    def waiting(self) -> int:
        return self.writer.transport.get_write_buffer_size()


class Workers:
    """All connected workers, and the snapshot they are meant to hold."""

    def __init__(self, on_batch: Callable[[OutcomeBatch], None], on_gone: Callable[[int, int], None]) -> None:
        self._on_batch = on_batch
        self._on_gone = on_gone
        self._connections: set[_Connection] = set()
        self._packed = pack({})
        self._snapshot = SnapshotUpdate(0, None, self._packed)
        self._opened = False
        self._changed = asyncio.Event()

    @property
    def snapshot(self) -> SnapshotUpdate:
        """What the workers are meant to hold, as a whole."""
        return self._snapshot

    @property
    def opened(self) -> bool:
        """Whether there was a first snapshot (rule 2)."""
        return self._opened

    @property
    def changed(self) -> asyncio.Event:
        """Set whenever there is another snapshot; whoever waits for it clears it."""
        return self._changed

    def resume_after(self, sequence: int) -> None:
        """Numbers go on above `sequence` (rule 5)."""
        if sequence > self._snapshot.sequence:
            self._snapshot = msgspec.structs.replace(self._snapshot, sequence=sequence)

    def applied(self) -> dict[int, int]:
        """By worker: the sequence that it last said to have in force."""
        return {connection.worker: connection.applied for connection in self._connections if connection.worker >= 0}

    def all_hold(self, sequence: int) -> bool:
        """Whether every connected worker has `sequence`, or a later one, in force."""
        return all(applied >= sequence for applied in self.applied().values())

    def publish(self, routes: Mapping[str, ModelRoute], removed: Collection[str] = ()) -> int:
        """Puts `routes` in force and takes `removed` out, in one step; returns the snapshot's sequence."""
        changed = pack(routes)
        self._packed = self._packed.changed(changed, removed)
        self._snapshot = SnapshotUpdate(self._snapshot.sequence + 1, None, self._packed)
        self._opened = True
        frames: dict[int, bytes] = {}
        for connection in list(self._connections):
            if connection.worker < 0:
                continue
            if connection.sent < 0:
                self._send_whole(connection)
                continue
            if connection.sent not in frames:
                update = SnapshotUpdate(self._snapshot.sequence, connection.sent, changed, tuple(removed))
                frames[connection.sent] = encode(update)
            self._send(connection, frames[connection.sent])
        self._changed.set()
        return self._snapshot.sequence

    def whole(self) -> bytes:
        """The whole snapshot as one frame."""
        return encode(self._snapshot)

    def _send_whole(self, connection: _Connection) -> None:
        frame = self.whole()
        connection.whole_size = len(frame)
        self._send(connection, frame)

    def _send(self, connection: _Connection, frame: bytes) -> None:
        if connection.waiting > connection.whole_size + SLACK:
            log.warning("worker %d does not read its snapshots; its connection is closed", connection.worker)
            connection.writer.transport.abort()
            self._connections.discard(connection)
            return
        connection.sent = self._snapshot.sequence
        connection.writer.write(frame)

    async def serve(self, path: Path) -> asyncio.Server:
        """Listens on `path`; whatever was there before is replaced."""
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return await asyncio.start_unix_server(self._attend, path=str(path))

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                if size > MAX_INBOUND:
                    log.warning("a frame of %d bytes on workers.sock is no worker's; the connection is closed", size)
                    break
                self._receive(connection, await reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            log.debug("worker %d closed its connection", connection.worker)
        except msgspec.MsgspecError as error:
            log.warning("bytes on workers.sock that are no message (%s); the connection is closed", error)
        finally:
            self._connections.discard(connection)
            writer.transport.abort()
            if connection.worker >= 0:
                self._on_gone(connection.worker, connection.pid)

    def _receive(self, connection: _Connection, body: bytes) -> None:
        message = decode(body)
        if isinstance(message, Hello):
            self._greet(connection, message)
        elif isinstance(message, Applied):
            connection.applied = message.sequence
        elif isinstance(message, OutcomeBatch):
            self._on_batch(message)

    def _greet(self, connection: _Connection, hello: Hello) -> None:
        for other in [other for other in self._connections if other.worker == hello.worker and other is not connection]:
            self._connections.discard(other)
            other.writer.transport.abort()
        connection.worker, connection.pid = hello.worker, hello.pid
        connection.sent = -1
        if hello.sequence and hello.sequence >= self._snapshot.sequence:
            self.resume_after(hello.sequence)
            if self._opened:
                self.publish({})
                return
        if self._opened:
            self._send_whole(connection)

    def close(self) -> None:
        """Closes every connection."""
        for connection in list(self._connections):
            connection.writer.transport.abort()
