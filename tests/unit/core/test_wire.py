"""Frames between control and workers."""

from __future__ import annotations

import msgspec
import pytest

from router.core.outcome import FAILURE, SLOW, Arm, ArmBatch, BadEvent, InFlight, OutcomeBatch, histogram_of
from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, RoutingSnapshot, Target
from router.core.split import lay_out
from router.core.wire import (
    Applied,
    Hello,
    Message,
    PackedRoutes,
    SnapshotUpdate,
    apply_update,
    decode,
    encode,
    pack,
    read_snapshot,
)


def route(name: str, digest: str = "d") -> ModelRoute:
    stable = Target("v3", "ready", 9000, 9000, (Endpoint("tcp", "::1", 80, base_path="/x", healthy=False),), "a", name)
    canary = Target("v4", "unready", 1000, 1000, (Endpoint("unix", "/run/x.sock"),), headers=(("authorization", "s"),))
    region = RegionRoute("default", (stable, canary), 0, lay_out(0, [(1, 1000)]))
    return ModelRoute(name, digest, {"default": region}, timeout=2.0, sticky_header="x-key")


CANARY = Arm("fraud", "default", "v4", "b", 1000, 9000, True)

MESSAGES: list[Message] = [
    SnapshotUpdate(7, None, {"fraud": route("fraud")}),
    SnapshotUpdate(8, 7, {}, ("fraud",)),
    Hello(3, 4711, 0),
    Applied(3, 8),
    OutcomeBatch(
        1,
        4711,
        2,
        (
            ArmBatch(
                CANARY,
                ((200, "ok", True, 5), (499, "abandoned", False, 1)),
                histogram_of([0.1, 3.0]),
                fallbacks=(("timeout", 2),),
                retries=1,
            ),
        ),
        (InFlight("fraud", "default", "v4", 3, 1),),
        bad=(BadEvent(CANARY, FAILURE | SLOW, 7, 0.5),),
    ),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_its_frame(message: Message) -> None:
    frame = encode(message)

    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert decode(frame[4:]) == message


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"type": "other"}), encode(MESSAGES[2])[4:-1]]
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(body)


def test_a_whole_update_replaces_everything() -> None:
    current = RoutingSnapshot(4, {"old": route("old")})

    assert apply_update(current, SnapshotUpdate(9, None, {"new": route("new")})) == RoutingSnapshot(
        9, {"new": route("new")}
    )
    assert apply_update(None, SnapshotUpdate(1, None, {})) == RoutingSnapshot(1, {})


def test_a_change_applies_on_top_of_its_base() -> None:
    current = RoutingSnapshot(4, {"a": route("a"), "b": route("b"), "c": route("c")})
    update = SnapshotUpdate(5, 4, {"b": route("b", "changed"), "d": route("d")}, ("a", "never there"))

    assert apply_update(current, update) == RoutingSnapshot(
        5, {"b": route("b", "changed"), "c": route("c"), "d": route("d")}
    )


def test_a_change_that_does_not_fit_is_not_applied() -> None:
    update = SnapshotUpdate(6, 5, {})

    assert apply_update(None, update) is None
    assert apply_update(RoutingSnapshot(4, {}), update) is None


def test_an_update_travels_with_each_route_as_bytes_of_its_own() -> None:
    routes = {"a": route("a"), "b": route("b")}
    update = decode(encode(SnapshotUpdate(7, None, routes))[4:])

    assert isinstance(update, SnapshotUpdate)
    assert isinstance(update.models, PackedRoutes)
    assert list(update.models) == ["a", "b"]
    assert len(update.models) == 2
    assert "a" in update.models
    assert "c" not in update.models
    assert update.models == routes
    assert encode(update) == encode(SnapshotUpdate(7, None, routes))


def test_packed_routes_change_without_being_unpacked() -> None:
    before = pack({"a": route("a"), "b": route("b"), "c": route("c")})

    after = before.changed(pack({"b": route("b", "changed"), "d": route("d")}), ["a", "never there"])

    assert after == {"b": route("b", "changed"), "c": route("c"), "d": route("d")}
    assert set(before) == {"a", "b", "c"}


def broken() -> bytes:
    """A frame whose second route is none."""
    raws = {**pack({"a": route("a")}).raws, "b": msgspec.Raw(msgspec.msgpack.encode({"model": 5}))}
    return encode(SnapshotUpdate(7, None, PackedRoutes(raws)))


def test_a_broken_route_is_found_when_it_is_asked_for() -> None:
    update = decode(broken()[4:])

    assert isinstance(update, SnapshotUpdate)
    assert update.models["a"] == route("a")
    with pytest.raises(msgspec.DecodeError):
        update.models["b"]


def test_a_kept_snapshot_is_read_whole_or_not_at_all() -> None:
    routes = {"a": route("a")}

    kept = read_snapshot(encode(SnapshotUpdate(7, None, routes)))

    assert kept is not None
    assert kept.sequence == 7
    assert type(kept.models) is dict
    assert kept.models == routes
    assert read_snapshot(encode(SnapshotUpdate(7, 6, routes))) is None
    assert read_snapshot(encode(Hello(1, 2, 3))) is None
    with pytest.raises(msgspec.DecodeError):
        read_snapshot(broken())
