"""The messages between control and workers, as bytes.

Rules:
1. A frame is four bytes of length, big endian, then one MessagePack message of a known type.
2. Control sends `SnapshotUpdate`; a worker sends `Hello` first, then `Applied` and `OutcomeBatch`.
3. An update that is not whole names only the models that changed or went away, and applies on top of `base`;
   a worker whose snapshot is not `base` answers with a new `Hello` and gets a whole one.
4. Each route in an update is bytes of its own, made once for all workers and for the disk, and read one by one: a
   thousand of them at once would hold up a worker's requests for milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute, RoutingSnapshot

MAX_FRAME = 256 * 1024 * 1024


class PackedRoutes(Mapping[str, ModelRoute]):
    """Routes by model, as bytes; a route is made anew from them each time it is asked for (rule 4).

    Asking for one raises `msgspec.DecodeError` where its bytes are no route.
    """

    def __init__(self, raws: Mapping[str, msgspec.Raw]) -> None:
        self._raws = raws

    def __getitem__(self, model: str) -> ModelRoute:
        route: ModelRoute = _route_decoder.decode(self._raws[model])
        return route

    def __contains__(self, model: object) -> bool:
        return model in self._raws

    def __iter__(self) -> Iterator[str]:
        return iter(self._raws)

    def __len__(self) -> int:
        return len(self._raws)

    def changed(self, routes: PackedRoutes, removed: Collection[str]) -> PackedRoutes:
        """These with `routes` put in and `removed` taken out."""
        raws = {**self._raws, **routes._raws}
        for name in removed:
            raws.pop(name, None)
        return PackedRoutes(raws)

    @property
    def raws(self) -> dict[str, msgspec.Raw]:
        """The bytes of each route."""
        return dict(self._raws)


def pack(routes: Mapping[str, ModelRoute]) -> PackedRoutes:
    """`routes` as they travel."""
    if isinstance(routes, PackedRoutes):
        return routes
    return PackedRoutes({name: msgspec.Raw(_encoder.encode(route)) for name, route in routes.items()})


class SnapshotUpdate(msgspec.Struct, frozen=True):
    """A new snapshot, whole (`base` is None) or as a change on top of the snapshot numbered `base`.

    One that came in a frame has its `models` packed.
    """

    sequence: int
    base: int | None
    models: Mapping[str, ModelRoute]
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


class _PackedUpdate(msgspec.Struct, frozen=True, tag="snapshot"):
    """A `SnapshotUpdate` in a frame."""

    sequence: int
    base: int | None
    models: dict[str, msgspec.Raw]
    removed: tuple[str, ...] = ()


Message = SnapshotUpdate | Hello | Applied | OutcomeBatch

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_PackedUpdate | Hello | Applied | OutcomeBatch)
_route_decoder = msgspec.msgpack.Decoder(ModelRoute)


def encode(message: Message) -> bytes:
    """`message` as one frame, length included."""
    if isinstance(message, SnapshotUpdate):
        body = _encoder.encode(
            _PackedUpdate(message.sequence, message.base, pack(message.models).raws, message.removed)
        )
    else:
        body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def decode(body: bytes) -> Message:
    """The message in `body`, the frame without its length.

    Raises:
        msgspec.DecodeError: it is no message of a known type. An update's routes are only looked at when they are
            asked for.
    """
    message: _PackedUpdate | Hello | Applied | OutcomeBatch = _decoder.decode(body)
    if isinstance(message, _PackedUpdate):
        return SnapshotUpdate(message.sequence, message.base, PackedRoutes(message.models), message.removed)
    return message


def read_snapshot(frame: bytes) -> SnapshotUpdate | None:
    """The whole snapshot in `frame`, its routes unpacked; None where it is another message.

    Raises:
        msgspec.DecodeError: it is no message of a known type, or one of the routes is none.
    """
    message = decode(frame[4:])
    if not isinstance(message, SnapshotUpdate) or message.base is not None:
        return None
    return msgspec.structs.replace(message, models=dict(message.models))


def apply_update(current: RoutingSnapshot | None, update: SnapshotUpdate) -> RoutingSnapshot | None:
    """The snapshot after `update`, or None where it does not fit on `current` (rule 3)."""
    if update.base is None:
        return RoutingSnapshot(update.sequence, dict(update.models))
    if current is None or current.sequence != update.base:
        return None
    models = {**current.models, **update.models}
    for name in update.removed:
        models.pop(name, None)
    return RoutingSnapshot(update.sequence, models)
