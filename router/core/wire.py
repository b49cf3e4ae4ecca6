"""The messages between control and workers, as bytes.

Rules:
1. A frame is four bytes of length, big endian, then one MessagePack message of a known type.
2. Control sends `SnapshotUpdate`; a worker sends `Hello` first, then `Applied` and `OutcomeBatch`.
3. An update that is not whole names only the models that changed or went away, and applies on top of `base`;
   a worker whose snapshot is not `base` answers with a new `Hello` and gets a whole one.
"""

from __future__ import annotations

import msgspec

from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute, RoutingSnapshot

MAX_FRAME = 256 * 1024 * 1024


class SnapshotUpdate(msgspec.Struct, frozen=True, tag="snapshot"):
    """A new snapshot, whole (`base` is None) or as a change on top of the snapshot numbered `base`."""

    sequence: int
    base: int | None
    models: dict[str, ModelRoute]
    removed: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker introduces itself and asks for a whole snapshot. `sequence` is what it holds, 0 for none."""

    worker: int
    pid: int
    sequence: int


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """A worker has put snapshot `sequence` in force."""

    worker: int
    sequence: int


Message = SnapshotUpdate | Hello | Applied | OutcomeBatch

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """`message` as one frame, length included."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode(body: bytes) -> Message:
    """The message in `body`, the frame without its length.

    Raises:
        msgspec.DecodeError: it is no message of a known type.
    """
    message: Message = _decoder.decode(body)
    return message


def apply_update(current: RoutingSnapshot | None, update: SnapshotUpdate) -> RoutingSnapshot | None:
    """The snapshot after `update`, or None where it does not fit on `current` (rule 3)."""
    if update.base is None:
        return RoutingSnapshot(update.sequence, update.models)
    if current is None or current.sequence != update.base:
        return None
    models = {**current.models, **update.models}
    for name in update.removed:
        models.pop(name, None)
    return RoutingSnapshot(update.sequence, models)
