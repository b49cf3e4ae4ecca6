"""The worker's link to control, over a real Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute
from router.core.wire import MAX_FRAME, Applied, Hello, Message, SnapshotUpdate, decode, encode
from router.dataplane.link import Link, read_kept
from tests.support.dataplane import model, target
from tests.support.wait import eventually_async

pytestmark = pytest.mark.anyio


class Control:
    """The other end: messages that came are in `got`; `say` sends to the worker that is connected."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.connections = 0
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        with suppress(EOFError, OSError):
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                self.got.append(decode(await reader.readexactly(size)))
        writer.close()

    def say(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)


@asynccontextmanager
async def linked(path: Path, applied: list[SnapshotUpdate]) -> AsyncIterator[Link]:
    async def apply(update: SnapshotUpdate) -> None:
        applied.append(update)

    link = Link(path, 3, 4711, apply)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[Control]:
    control = Control()
    server = await asyncio.start_unix_server(control.serve, str(path))
    try:
        yield control
    finally:
        server.close()
        if control.writer is not None:
            control.writer.close()


def changed(sequence: int, base: int | None) -> bytes:
    return encode(SnapshotUpdate(sequence, base, {}))


async def test_a_snapshot_is_applied_and_said_to_be(tmp_path: Path) -> None:
    applied: list[SnapshotUpdate] = []
    async with listening(tmp_path / "s") as control, linked(tmp_path / "s", applied) as link:
        await eventually_async(lambda: control.got == [Hello(3, 4711, 0)])

        control.say(changed(5, None) + changed(6, 5))

        await eventually_async(lambda: control.got[1:] == [Applied(3, 5), Applied(3, 6)])
        assert [update.sequence for update in applied] == [5, 6]
        assert link.sequence == 6


async def test_a_change_that_does_not_fit_is_answered_with_hello(tmp_path: Path) -> None:
    applied: list[SnapshotUpdate] = []
    async with listening(tmp_path / "s") as control, linked(tmp_path / "s", applied):
        await eventually_async(lambda: control.got)
        control.say(changed(5, None) + changed(8, 7))

        await eventually_async(lambda: control.got[1:] == [Applied(3, 5), Hello(3, 4711, 5)])
        control.say(changed(8, None))
        await eventually_async(lambda: control.got[3:] == [Applied(3, 8)])
    assert [update.sequence for update in applied] == [5, 8]


async def test_batches_go_out_while_the_link_is_up(tmp_path: Path) -> None:
    async with listening(tmp_path / "s") as control, linked(tmp_path / "s", []) as link:
        await eventually_async(lambda: link.up)
        link.send(OutcomeBatch(3, 4711, 1))

        await eventually_async(lambda: control.got[1:] == [OutcomeBatch(3, 4711, 1)])
    assert not link.up
    link.send(OutcomeBatch(3, 4711, 2))


async def test_it_connects_again_and_says_what_it_holds(tmp_path: Path) -> None:
    async with linked(tmp_path / "s", []) as link:
        await asyncio.sleep(0)
        assert not link.up
        async with listening(tmp_path / "s") as control:
            await eventually_async(lambda: control.got)
            control.say(changed(9, None))
            await eventually_async(lambda: link.sequence == 9)
        (tmp_path / "s").unlink(missing_ok=True)
        async with listening(tmp_path / "s") as control:
            await eventually_async(lambda: control.got == [Hello(3, 4711, 9)])


@pytest.mark.parametrize("garbage", [(MAX_FRAME + 1).to_bytes(4, "big"), b"\0\0\0\x01\xc1", b"\0\0\0\x01\x80"])
async def test_garbage_ends_a_connection_and_not_the_link(tmp_path: Path, garbage: bytes) -> None:
    async with listening(tmp_path / "s") as control, linked(tmp_path / "s", []) as link:
        await eventually_async(lambda: control.got)
        control.say(garbage)

        await eventually_async(lambda: control.connections == 2)
        control.say(changed(1, None))
        await eventually_async(lambda: link.sequence == 1)


async def test_a_snapshot_that_cannot_be_applied_does_not_end_the_link(tmp_path: Path) -> None:
    failing = [True]

    async def apply(_: SnapshotUpdate) -> None:
        if failing.pop() if failing else False:
            raise ValueError("a route that cannot be made live")

    link = Link(tmp_path / "s", 3, 4711, apply)
    async with listening(tmp_path / "s") as control:
        task = asyncio.create_task(link.run())
        await eventually_async(lambda: control.got)
        control.say(changed(1, None))
        await eventually_async(lambda: control.connections == 2)
        control.say(changed(2, None))

        await eventually_async(lambda: link.sequence == 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_other_messages_are_not_for_a_worker(tmp_path: Path) -> None:
    async with listening(tmp_path / "s") as control, linked(tmp_path / "s", []) as link:
        await eventually_async(lambda: control.got)
        control.say(encode(Applied(3, 1)) + changed(4, None))

        await eventually_async(lambda: link.sequence == 4)


# -- the snapshot that a restarted worker finds


def both() -> ModelRoute:
    return model(target("v3"), target("v4", weight=2500), target("v5", weight=100))


def test_what_was_kept_gives_stable_everything(tmp_path: Path) -> None:
    (tmp_path / "snapshot.bin").write_bytes(encode(SnapshotUpdate(7, None, {"fraud": both()})))

    kept = read_kept(tmp_path / "snapshot.bin")

    assert kept is not None
    assert (kept.sequence, kept.base) == (0, None), "control is asked for a whole one all the same"
    region = kept.models["fraud"].regions["default"]
    assert [target.weight for target in region.targets] == [10_000, 0, 0]
    assert [target.declared for target in region.targets] == [7400, 2500, 100]
    assert region.slots.ends == (10_000,)


@pytest.mark.parametrize(
    "content", [None, b"", b"\0\0", encode(Hello(1, 2, 3)), encode(SnapshotUpdate(7, None, {}))[:-1]]
)
def test_nothing_useful_was_kept(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "snapshot.bin").write_bytes(content)

    assert read_kept(tmp_path / "snapshot.bin") is None
