from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.control.children import Child, Children
from tests.unit.control.fakes import until

pytestmark = pytest.mark.anyio


class FakeSupervisor:
    def __init__(self) -> None:
        self.heard: list[dict[str, object]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while line := await reader.readline():
            self.heard.append(json.loads(line))
        writer.close()

    def say(self, message: object) -> None:
        self.writers[-1].write(json.dumps(message).encode() + b"\n")


@asynccontextmanager
async def supervised(path: Path) -> AsyncIterator[tuple[FakeSupervisor, Children, list[Child]]]:
    supervisor = FakeSupervisor()
    seen: list[Child] = []
    children = Children(path, SystemClock(), seen.append)
    talking = asyncio.create_task(children.keep_connected())
    server = await asyncio.start_unix_server(supervisor.attend, str(path))
    await until(lambda: supervisor.writers)
    try:
        yield supervisor, children, seen
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        server.close()
        for writer in supervisor.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def test_asks_and_hears(tmp_path: Path) -> None:
    async with supervised(tmp_path / "s.sock") as (supervisor, children, seen):
        children.run("pyfunc-1", ["python"], {"A": "b"})
        await until(lambda: supervisor.heard)
        assert supervisor.heard == [{"op": "run", "name": "pyfunc-1", "argv": ["python"], "env": {"A": "b"}}]
        supervisor.say({"event": "child", "name": "pyfunc-1", "pid": 7, "state": "backoff", "restarts": 1, "exit": 3})
        await until(lambda: seen)
        assert seen == [Child("pyfunc-1", "backoff", 7, 1, 3)]
        children.restart("pyfunc-1")
        children.stop("pyfunc-1")
        await until(lambda: len(supervisor.heard) == 3)
        assert [message["op"] for message in supervisor.heard] == ["run", "restart", "stop"]
        assert children.known == {}


async def test_a_lost_supervisor_is_found_again_and_told_again(tmp_path: Path) -> None:
    async with supervised(tmp_path / "s.sock") as (supervisor, children, _):
        children.run("pyfunc-1", ["python"], {})
        children.run("pyfunc-2", ["python"], {})
        children.stop("pyfunc-2")
        await until(lambda: len(supervisor.heard) == 3)
        supervisor.heard.clear()
        supervisor.writers[-1].transport.abort()
        await until(lambda: supervisor.heard)
        assert [message["name"] for message in supervisor.heard] == ["pyfunc-1"]


async def test_the_list_replaces_what_was_known(tmp_path: Path) -> None:
    async with supervised(tmp_path / "s.sock") as (supervisor, children, _):
        supervisor.say({"event": "child", "name": "pyfunc-9", "state": "running"})
        supervisor.say({"event": "children", "children": [{"name": "pyfunc-1", "state": "running", "pid": 5}]})
        await until(lambda: "pyfunc-1" in children.known)
        assert set(children.known) == {"pyfunc-1"}


@pytest.mark.parametrize(
    "nonsense", [[1], {"event": "children", "children": 3}, {"event": "child"}, {"no": "event"}, "x"]
)
async def test_nonsense_is_passed_over(tmp_path: Path, nonsense: object) -> None:
    async with supervised(tmp_path / "s.sock") as (supervisor, children, _):
        supervisor.say(nonsense)
        supervisor.say({"event": "draining"})
        await until(lambda: children.draining)
