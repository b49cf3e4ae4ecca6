"""The control process as it is: a real process, real files and sockets, and a worker that speaks the wire."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.config.settings_schema import Settings
from router.core.snapshot import ModelRoute
from router.core.wire import Hello, SnapshotUpdate, decode, encode
from tests.support.stub_upstream import StubUpstream
from tests.unit.control.fakes import FakeWorker

pytestmark = pytest.mark.anyio

MODEL = """\
model: {name}
versions:
  v3: {{upstreams: ["{url}"]}}
  v4: {{upstreams: ["{url}/canary"]}}
stable: v3
regions:
  default: {{v3: {stable}, v4: {canary}}}
"""


class Worker:
    """A worker that reconnects for as long as it lives, and remembers every update."""

    def __init__(self, path: Path, index: int = 0) -> None:
        self.path, self.index = path, index
        self.updates: list[SnapshotUpdate] = []
        self.models: dict[str, ModelRoute] = {}
        self.sequence = 0
        self.connections = 0
        self._task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._talk()
            await asyncio.sleep(0.02)

    async def _talk(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self.connections += 1
        fake = FakeWorker(reader, writer, self.index)
        try:
            writer.write(encode(Hello(self.index, os.getpid(), self.sequence)))
            while True:
                await fake.receive()
                assert fake.held is not None
                assert fake.held.sequence > self.sequence
                self.models, self.sequence = fake.held.models, fake.held.sequence
                self.updates.append(fake.updates[-1])
        finally:
            writer.transport.abort()

    def weights(self, model: str = "fraud") -> dict[str, int]:
        """Effective weights of `model`; empty where it is unknown."""
        route = self.models.get(model)
        return {target.version: target.weight for target in route.regions["default"].targets} if route else {}

    def all_admitted(self) -> bool:
        """Whether every version of every model it holds may be sent to."""
        return all(target.admitted for route in self.models.values() for target in route.regions["default"].targets)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Process:
    """One control process after another, over the same files."""

    def __init__(self, root: Path, upstream: str) -> None:
        self.root, self.upstream = root, upstream
        self.config, self.run, self.state = root / "config", root / "run", root / "state"
        for folder in (self.config / "models", self.run, self.state):
            folder.mkdir(parents=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.admin = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.lifeline = os.pipe()
        settings = Settings(listen={"default": "127.0.0.1:0"}, config=self.config, state=self.state)
        resolved = {"settings": json.loads(settings.model_dump_json()), "bound": {}, "worker_count": 1}
        (self.run / "settings.json").write_text(json.dumps(resolved))
        self.child: asyncio.subprocess.Process | None = None
        self.client = httpx.AsyncClient(base_url=self.admin, trust_env=False)

    async def start(self) -> None:
        fd, lifeline = self.listener.fileno(), self.lifeline[0]
        self.child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "router.web", "--run", str(self.run)),
            *("--fd", str(fd), "--lifeline", str(lifeline)),
            pass_fds=(fd, lifeline),
        )

    async def end(self, sig: signal.Signals) -> int:
        assert self.child is not None
        if self.child.returncode is None:
            self.child.send_signal(sig)
        return await asyncio.wait_for(self.child.wait(), 10)

    def text(self, name: str = "fraud", canary: float = 10) -> str:
        return MODEL.format(name=name, url=self.upstream, stable=100 - canary, canary=canary)

    def write(self, text: str, name: str = "fraud") -> None:
        temporary = self.config / "models" / f".{name}.new"
        temporary.write_text(text)
        temporary.replace(self.config / "models" / f"{name}.yaml")

    async def model(self, name: str = "fraud") -> dict[str, Any]:
        body: dict[str, Any] = (await self.client.get(f"/api/v1/models/{name}")).json()
        return body

    async def problems(self, name: str = "") -> list[Any]:
        """What is wrong with model `name`, or beyond single models."""
        body = (await self.client.get(f"/api/v1/models/{name}" if name else "/api/v1/models")).json()
        found: list[Any] = body.get("config", {}).get("problems", []) if name else body["problems"]
        return found

    async def metric(self, name: str) -> float:
        lines = (await self.client.get("/metrics")).text.splitlines()
        return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])

    async def close(self) -> None:
        if self.child is not None:
            await self.end(signal.SIGKILL)
        await self.client.aclose()
        self.listener.close()
        for end in self.lifeline:
            os.close(end)


@asynccontextmanager
async def control(root: Path) -> AsyncIterator[tuple[Process, Worker]]:
    with StubUpstream() as upstream:
        process = Process(root, upstream.url)
        process.write(process.text())
        worker = Worker(process.run / "workers.sock")
        try:
            await process.start()
            await until(lambda: worker.weights() == {"v3": 9000, "v4": 1000})
            yield process, worker
        finally:
            await worker.close()
            await process.close()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async def asked() -> object:
        return condition()

    await until_true(asked, seconds)


async def until_true(condition: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Returns once `condition` is met; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.005)


async def test_from_file_to_worker_and_to_the_api(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        assert (await process.client.get("/livez")).status_code == 200
        ready = await process.client.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (200, [])
        assert "server" not in ready.headers
        shown = await process.model()
        assert shown["effective"] == {"v3": 90, "v4": 10}
        assert await process.metric("canary_router_config_last_success_timestamp_seconds") > 1.7e9
        assert (await process.client.get("/")).status_code == 200
        before = len(worker.updates)
        process.write(process.text(canary=12.5))
        await until(lambda: worker.weights() == {"v3": 8750, "v4": 1250})
        assert [update.base is not None for update in worker.updates[before:]] == [True]
        (process.run / "settings.json").unlink()
        assert await process.end(signal.SIGTERM) == 0


async def test_an_edit_reaches_the_workers_soon(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        took = []
        for round_ in range(20):
            canary = 20 + round_
            began = asyncio.get_running_loop().time()
            process.write(process.text(canary=canary))
            await until(lambda canary=canary: worker.weights()["v4"] == canary * 100)  # type: ignore[misc]  # a default argument
            took.append(asyncio.get_running_loop().time() - began)
        assert sorted(took)[10] < 0.5
        assert max(took) < 3


async def test_a_symlink_swap_as_of_a_config_map(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        models = process.config / "models"
        for stamp, canary in (("..one", 10), ("..two", 33)):
            (models / stamp).mkdir()
            (models / stamp / "fraud.yaml").write_text(process.text(canary=canary))
        (models / "..data").symlink_to("..one")
        (models / ".link").symlink_to("..data/fraud.yaml")
        (models / ".link").replace(models / "fraud.yaml")
        (models / "..data_tmp").symlink_to("..two")
        (models / "..data_tmp").replace(models / "..data")
        await until(lambda: worker.weights()["v4"] == 3300)


async def test_a_broken_file_keeps_the_last_good_config_over_a_restart(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        process.write("versions: [", "other")
        process.write(process.text().replace("v4: 10", "v4: 20"))
        await until_true(lambda: process.problems("fraud"))
        shown = await process.model()
        assert shown["effective"] == {"v3": 90, "v4": 10}
        assert shown["config"]["problems"][0]["file"].endswith("models/fraud.yaml")
        assert await process.metric("canary_router_config_reload_failures_total") >= 2
        never_good = await process.model("other")
        assert never_good["regions"] == {}
        assert never_good["config"]["problems"]
        assert "other" not in worker.models
        for sig in (signal.SIGKILL, signal.SIGTERM):
            await process.end(sig)
            updates = len(worker.updates)
            await process.start()
            await until(lambda updates=updates: len(worker.updates) > updates)  # type: ignore[misc]  # a default argument
            assert worker.weights() == {"v3": 9000, "v4": 1000}
            shown = await process.model()
            assert shown["config"]["problems"]
            assert shown["effective"] == {"v3": 90, "v4": 10}


async def test_a_killed_control_takes_over_what_workers_hold(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        held = worker.models["fraud"]
        for _ in range(3):
            # The file follows what workers hold within 200 ms; before that there is nothing newer to take over.
            await until(lambda: kept(process.run / "snapshot.bin") == held)
            await process.end(signal.SIGKILL)
            updates, connections = len(worker.updates), worker.connections
            await process.start()
            await until(lambda updates=updates: len(worker.updates) > updates)  # type: ignore[misc]  # a default argument
            assert worker.connections > connections
            assert worker.updates[updates].models["fraud"] == held


async def test_a_directory_that_vanishes_changes_nothing(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        (process.config / "models").rename(tmp_path / "away")
        await until_true(lambda: process.problems())
        assert worker.weights() == {"v3": 9000, "v4": 1000}
        (tmp_path / "away").rename(process.config / "models")
        process.write(process.text(canary=50))
        await until(lambda: worker.weights()["v4"] == 5000)
        process.write(process.text("other"), "other")
        await until(lambda: "other" in worker.models)
        (process.config / "models" / "other.yaml").unlink()
        await until(lambda: "other" not in worker.models)
        assert (await process.client.get("/api/v1/models/other")).status_code == 404


@pytest.mark.parametrize("hostile", [b"a" * 5_000_000, b"[" * 1000, b"\xff\xfe", b"", b"x: &a [*a]"], ids=len)
async def test_hostile_files_stop_nobody(tmp_path: Path, hostile: bytes) -> None:
    async with control(tmp_path) as (process, worker):
        (process.config / "models" / "hostile.yaml").write_bytes(hostile)
        await until_true(lambda: process.problems("hostile"))
        process.write(process.text(canary=44))
        await until(lambda: worker.weights()["v4"] == 4400)
        assert "hostile" not in worker.models


def kept(path: Path) -> object:
    """The route of `fraud` in the snapshot on disk."""
    if not path.exists():
        return None
    update = decode(path.read_bytes()[4:])
    assert isinstance(update, SnapshotUpdate)
    return update.models.get("fraud")


@pytest.mark.slow
async def test_among_a_thousand_models_an_edit_of_one_is_one(tmp_path: Path) -> None:
    async with control(tmp_path) as (process, worker):
        for number in range(999):
            process.write(process.text(f"m{number}"), f"m{number}")
        await until(lambda: len(worker.models) == 1000, 60)
        await until(worker.all_admitted, 60)
        before = len(worker.updates)
        process.write(process.text("m500", 25), "m500")
        await until(lambda: worker.weights("m500")["v4"] == 2500)
        assert [set(update.models) for update in worker.updates[before:]] == [{"m500"}]
