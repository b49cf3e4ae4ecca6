from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from router.config.serving import Launch, Serving
from router.control.children import Child, Children
from router.control.models import GRACE_SECONDS, Loader
from router.control.needs import LoadNeed, Need
from router.control.pins import Pin, pin_from_text, pin_to_text
from tests.unit.control.fakes import FakeClock, FakeRegistry, until

pytestmark = pytest.mark.anyio

V3 = LoadNeed("fraud", "models:/fraud/3")
CHAMPION = LoadNeed("fraud", "models:/fraud@champion")


class FakeChildren(Children):
    """Runs a server that answers /ping for every child, or says that it ended, as `fate` has it."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        super().__init__(path, clock, lambda child: None)
        self.calls: list[tuple[str, str]] = []
        self.fate: int | None = None
        self.loader: Loader | None = None
        self.servers: dict[str, asyncio.Server] = {}
        self._starting: list[asyncio.Task[None]] = []

    def run(self, name: str, argv: object, env: Mapping[str, str]) -> None:
        self.calls.append(("run", name))
        assert isinstance(argv, list)
        if self.fate is None:
            self.known[name] = Child(name, "running", 1)
            self._starting.append(asyncio.ensure_future(self._open(name, argv[1])))
            return
        assert self.loader is not None
        self.loader.heard(Child(name, "backoff", None, 1, self.fate))

    def stop(self, name: str) -> None:
        self.calls.append(("stop", name))
        self.known.pop(name, None)
        if name in self.servers:
            self.servers.pop(name).close()

    async def _open(self, name: str, path: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()

        self.servers[name] = await asyncio.start_unix_server(answer, path)


class Bench:
    def __init__(self, root: Path, pins: Mapping[LoadNeed, Pin]) -> None:
        self.clock = FakeClock()
        self.registry = FakeRegistry({V3.uri: "models:/fraud/3", CHAMPION.uri: "models:/fraud/3"})
        self.children = FakeChildren(root / "none.sock", self.clock)
        self.kept: dict[LoadNeed, Pin] = {}
        self.changed: list[Need] = []
        self.loader = Loader(
            models=root / "models",
            sockets=root,
            registry=self.registry,
            children=self.children,
            command=lambda launch: (["serve", str(launch.socket), str(launch.directory)], {}),
            clock=self.clock,
            stored_pin=dict(pins).get,
            keep_pin=self.kept.__setitem__,
            on_change=self._on_change,
        )
        self.children.loader = self.loader

    def _on_change(self, needs: Collection[Need]) -> None:
        self.changed.extend(needs)

    async def until_state(self, need: LoadNeed, state: str) -> None:
        await until(lambda: self.loader.fact(need).state == state, clock=self.clock)


@asynccontextmanager
async def bench(root: Path, pins: Mapping[LoadNeed, Pin] | None = None) -> AsyncIterator[Bench]:
    made = Bench(root, pins or {})
    try:
        yield made
    finally:
        await made.loader.close()
        for server in made.children.servers.values():
            server.close()
        await asyncio.sleep(0)


async def test_from_a_uri_to_a_server_that_answers(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.loader.want({V3})
        assert there.loader.fact(V3).state == "warming"
        await there.until_state(V3, "ready")
        fact = there.loader.fact(V3)
        assert fact.endpoints[0].network == "unix"
        assert fact.digest
        assert fact.resolved["resolved"] == "models:/fraud/3"
        assert V3 in there.changed
        assert there.kept[V3].digest == "digest of models:/fraud/3"


async def test_models_and_aliases_that_pin_the_same_version_share_a_server(tmp_path: Path) -> None:
    other = LoadNeed("other", V3.uri)
    async with bench(tmp_path) as there:
        there.loader.want({V3, CHAMPION, other})
        for need in (V3, CHAMPION, other):
            await there.until_state(need, "ready")
        assert len({there.loader.fact(need).digest for need in (V3, CHAMPION, other)}) == 1
        assert [op for op, _ in there.children.calls] == ["run"]
        assert len(there.registry.fetched) == 1
        assert there.kept[other].digest


async def test_a_pin_holds_while_the_registry_is_down(tmp_path: Path) -> None:
    pin = Pin("abc", {"resolved": "models:/fraud/2"}, "d")
    (tmp_path / "models" / "abc").mkdir(parents=True)
    async with bench(tmp_path, {CHAMPION: pin}) as there:
        there.registry.down = True
        there.loader.want({CHAMPION})
        await there.until_state(CHAMPION, "ready")
        assert there.registry.resolved == []
        assert there.registry.fetched == []
        assert there.loader.fact(CHAMPION).resolved["resolved"] == "models:/fraud/2"


async def test_a_uri_that_left_the_config_is_resolved_again_when_it_comes_back(tmp_path: Path) -> None:
    pin = Pin("abc", {"resolved": "models:/fraud/2"}, "d")
    (tmp_path / "models" / "abc").mkdir(parents=True)
    async with bench(tmp_path, {CHAMPION: pin}) as there:
        there.loader.want({CHAMPION})
        await there.until_state(CHAMPION, "ready")
        there.loader.want(set())
        there.loader.want({CHAMPION})
        await until(
            lambda: there.loader.fact(CHAMPION).resolved.get("resolved") == "models:/fraud/3", clock=there.clock
        )


async def test_a_registry_that_is_down_is_asked_again_and_given_up_on_meanwhile(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.registry.down = True
        there.loader.want({V3})
        await there.until_state(V3, "unready")
        assert "does not answer" in there.loader.fact(V3).reason
        assert not there.loader.fact(V3).given_up
        await until(lambda: there.loader.fact(V3).given_up, clock=there.clock)
        there.registry.down = False
        await there.until_state(V3, "ready")
        assert not there.loader.fact(V3).given_up
        assert there.loader.fact(V3).reason == ""


async def test_a_server_that_ends_while_it_loads_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.children.fate = 3
        there.loader.want({V3})
        await until(lambda: there.loader.fact(V3).given_up, clock=there.clock)
        assert "ended with code 3" in there.loader.fact(V3).reason
        assert [op for op, _ in there.children.calls[:2]] == ["run", "stop"]
        there.children.fate = None
        await there.until_state(V3, "ready")


async def test_a_ready_version_stays_ready_when_its_server_dies(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.loader.want({V3})
        await there.until_state(V3, "ready")
        (name,) = there.children.known
        there.loader.heard(Child(name, "backoff", None, 1, -9))
        assert (there.loader.fact(V3).state, "code -9" in there.loader.fact(V3).reason) == ("ready", True)
        there.loader.heard(Child(name, "running", 5, 1))
        assert there.loader.fact(V3).reason == ""
        there.loader.heard(Child("worker-0", "backoff", None, 1, 1))


@pytest.mark.parametrize("ends", [[3], [-11, -11, -11]])
async def test_a_server_that_does_not_stay_up_is_shown_as_unready_and_keeps_its_weight(
    tmp_path: Path, ends: list[int]
) -> None:
    async with bench(tmp_path) as there:
        there.loader.want({V3})
        await there.until_state(V3, "ready")
        (name,) = there.children.known
        socket = Path(there.loader.fact(V3).endpoints[0].address)
        there.children.servers.pop(name).close()
        socket.with_name(socket.name + ".fault").write_text('{"error": "killed by SIGSEGV, 5 times in a row"}')
        there.changed.clear()
        for code in ends:
            there.loader.heard(Child(name, "backoff", None, 1, code))
        await until(lambda: "5 times in a row" in there.loader.fact(V3).reason, clock=there.clock)
        fact = there.loader.fact(V3)
        assert (fact.shown, fact.state, fact.for_route().state) == ("unready", "ready", "ready")
        there.loader.heard(Child(name, "running", 5, 1))
        assert "5 times in a row" in there.loader.fact(V3).reason
        assert V3 in there.changed
        await there.children._open(name, str(socket))
        await until(lambda: there.loader.fact(V3).shown == "ready", clock=there.clock)
        assert there.loader.fact(V3).reason == ""


async def test_an_isolated_version_waits_for_its_own_environment(tmp_path: Path) -> None:
    need = LoadNeed(V3.model, V3.uri, Serving(isolated=True))
    async with bench(tmp_path) as there:
        asked: list[Launch] = []
        serve = there.loader._command

        def command(launch: Launch) -> tuple[Sequence[str], Mapping[str, str]]:
            asked.append(launch)
            return serve(launch)

        there.loader._command = command
        there.loader.want({need})
        await there.until_state(need, "ready")
        assert [launch.python for launch in asked] == [asked[0].directory / "python"]
        assert there.loader.fact(need).resolved["sha256"] == f"digest of {V3.uri}"


async def test_another_way_to_serve_is_another_server_of_the_same_version(tmp_path: Path) -> None:
    batched = LoadNeed(CHAMPION.model, CHAMPION.uri, Serving(max_rows=64))
    async with bench(tmp_path) as there:
        there.loader.want({CHAMPION})
        await there.until_state(CHAMPION, "ready")
        there.registry.uris[CHAMPION.uri] = "models:/fraud/4"
        there.loader.want({CHAMPION, batched})
        await there.until_state(batched, "ready")
        there.loader.want({batched})
        before, after = there.loader.fact(CHAMPION), there.loader.fact(batched)
        assert before.reason == "not wanted yet"
        assert after.resolved["resolved"] == "models:/fraud/3"
        assert [op for op, _ in there.children.calls] == ["run", "run"]
        assert set(there.registry.fetched) == {"models:/fraud/3"}


async def test_a_server_is_stopped_once_nothing_sends_to_it_for_a_while(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.loader.want({V3})
        await there.until_state(V3, "ready")
        socket = there.loader.fact(V3).endpoints[0].address
        there.loader.sweep(set())
        there.loader.want(set())
        for _ in range(3):
            there.clock.advance(GRACE_SECONDS)
            there.loader.sweep({socket})
        assert ("stop", *there.children.known) not in there.children.calls
        there.loader.sweep(set())
        there.clock.advance(GRACE_SECONDS / 2)
        there.loader.sweep(set())
        assert there.children.known
        there.clock.advance(GRACE_SECONDS)
        there.loader.sweep(set())
        assert not there.children.known


async def test_servers_of_an_earlier_life_that_nobody_needs_are_stopped(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.children.known = {"pyfunc-old": Child("pyfunc-old", "running"), "worker-0": Child("worker-0", "running")}
        there.loader.sweep(set())
        there.clock.advance(GRACE_SECONDS)
        there.loader.sweep(set())
        assert there.children.calls == [("stop", "pyfunc-old")]


async def test_at_most_two_load_at_a_time(tmp_path: Path) -> None:
    needs = {LoadNeed("m", f"models:/m/{number}") for number in range(6)}
    most = 0

    class Slow(FakeRegistry):
        running = 0

        async def fetch(self, uri: str, directory: Path, expected: str) -> str:
            nonlocal most
            self.running += 1
            most = max(most, self.running)
            await asyncio.sleep(0.01)
            self.running -= 1
            return await super().fetch(uri, directory, expected)

    async with bench(tmp_path) as there:
        there.loader._registry = Slow({need.uri: need.uri for need in needs})
        there.loader.want(needs)
        for need in needs:
            await there.until_state(need, "ready")
    assert most == 2


async def test_a_changed_local_model_is_another_version(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "MLmodel").write_text("one")
    need = LoadNeed("m", str(folder))
    async with bench(tmp_path) as there:
        there.registry.uris[need.uri] = str(folder)
        there.loader.want({need})
        await there.until_state(need, "ready")
        before = there.kept[need].key
        (folder / "MLmodel").write_text("another")
        there.loader.want(set())
        there.loader.want({need})
        await until(lambda: there.kept[need].key != before, clock=there.clock)


def test_pins_survive_as_text() -> None:
    pin = Pin("k", {"resolved": "models:/m/1", "tags": {"a": "b"}}, "d")
    assert pin_from_text(pin_to_text(pin)) == pin
    assert pin_from_text("{}") is None
    assert pin_from_text("nonsense") is None
    assert json.loads(pin_to_text(pin))["key"] == "k"
