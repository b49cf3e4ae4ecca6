"""Loaded versions: from a URI to a pyfunc server that answers.

Rules:
1. A URI is resolved once for a model and pinned; the pin holds, restarts included, for as long as the model's config
   names the URI. So an alias that moves changes nothing until the config does.
2. One server per pinned version and way to serve it, shared by all regions and models that want the same.
3. What fails is tried again, with growing pauses; after three failures nobody waits for it any more.
4. A version is what its files were when it was first fetched: other files under the same URI are refused, also after
   a restart.
5. At most two models load, and two URIs are resolved, at a time: each is a process that imports for seconds.
6. A server is stopped only once no config needs it and, for `GRACE_SECONDS`, no route that workers hold sends to it.
7. Once ready a version keeps its weight: a server that dies is restarted by the supervisor, and failures are its own.
   One that gives itself up, or ends `DOWN_AFTER` times without staying up between, is `down` until it answers again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx
import msgspec

from router.clock import Clock
from router.config.serving import Launch, Serving
from router.control.backoff import Backoff
from router.control.children import Child, Children
from router.control.needs import Fact, LoadNeed, Need
from router.control.pins import Pin, key_of
from router.control.tasks import Tasks
from router.core.snapshot import Endpoint, State
from router.errors import RouterError, UpstreamError

log = logging.getLogger(__name__)

AT_A_TIME = 2
GRACE_SECONDS = 5.0
PING_SECONDS = 0.1
LOAD_SECONDS = 600.0
PREFIX = "pyfunc-"
GAVE_UP = 3
"""The exit code of a server that says itself that another try will hardly help."""
DOWN_AFTER = 3
DOWN_WINDOW_SECONDS = 60.0


class Registry(Protocol):
    """Where models come from."""

    async def resolve(self, uri: str) -> Mapping[str, object]:
        """What `uri` means now; `resolved` in it is the pinned URI. Raises RouterError."""
        ...

    async def fetch(self, uri: str, directory: Path, expected: str) -> str:
        """Puts the artifacts of pinned `uri` into `directory`, whole or not at all; returns their digest.

        Raises RouterError, also where they have another digest than `expected` (empty: any).
        """
        ...

    async def prepare(self, directory: Path) -> Path:
        """The interpreter of an environment with what the model in `directory` requires. Raises RouterError."""
        ...


Command = Callable[[Launch], tuple[Sequence[str], Mapping[str, str]]]
"""What to start → argv and environment of a pyfunc server."""


@dataclass(slots=True, eq=False)
class _Server:
    pin: Pin
    serving: Serving
    socket: Path
    state: State = "warming"
    reason: str = "waits for its turn to load"
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 60.0))
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    exit: int | None = None
    down: bool = False
    ends: list[float] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.serving.key_for(self.pin.key)

    @property
    def name(self) -> str:
        return PREFIX + self.key


@dataclass(slots=True, eq=False)
class _Resolution:
    reason: str = "its URI is being resolved"
    backoff: Backoff = field(default_factory=Backoff)


class Loader:
    """Brings up what is wanted, and takes down what is not.

    `stored_pin` is asked once for each need, `keep_pin` stores one; `on_change` is told of every need with a new fact.
    """

    def __init__(
        self,
        *,
        models: Path,
        sockets: Path,
        registry: Registry,
        children: Children,
        command: Command,
        clock: Clock,
        stored_pin: Callable[[LoadNeed], Pin | None],
        keep_pin: Callable[[LoadNeed, Pin], None],
        on_change: Callable[[Collection[Need]], None],
    ) -> None:
        self._models = models
        self._sockets = sockets
        self._registry = registry
        self._children = children
        self._command = command
        self._clock = clock
        self._stored_pin = stored_pin
        self._seen: set[tuple[str, str]] = set()
        self._keep_pin = keep_pin
        self._on_change = on_change
        self._resolutions: dict[LoadNeed, _Resolution] = {}
        self._pins: dict[LoadNeed, Pin] = {}
        self._servers: dict[str, _Server] = {}
        self._unused_since: dict[str, float] = {}
        self._tasks = Tasks(clock)
        self._resolving = asyncio.Semaphore(AT_A_TIME)
        self._loading = asyncio.Semaphore(AT_A_TIME)

    def want(self, needs: Collection[LoadNeed]) -> None:
        """From now on exactly `needs` are wanted."""
        # Another way to serve the same URI is no reason to resolve it again.
        pinned = {(need.model, need.uri): pin for need, pin in self._pins.items()}
        for need in [need for need in self._resolutions if need not in needs]:
            del self._resolutions[need]
            self._pins.pop(need, None)
            self._tasks.stop(need)
        for need in needs:
            if need not in self._resolutions:
                self._resolutions[need] = _Resolution()
                self._begin(need, pinned.get((need.model, need.uri)))

    def _begin(self, need: LoadNeed, pinned: Pin | None) -> None:
        named = (need.model, need.uri)
        if pinned is None and named not in self._seen:
            pinned = self._stored_pin(need)
        self._seen.add(named)
        if pinned is not None:
            self._take(need, pinned)
        else:
            self._tasks.start(need, lambda: self._resolve(need))

    def fact(self, need: LoadNeed) -> Fact:
        """What is known of `need`."""
        pin = self._pins.get(need)
        resolution = self._resolutions.get(need)
        if resolution is None:
            return Fact(reason="not wanted yet")
        if pin is None:
            backoff = resolution.backoff
            return Fact("unready" if backoff.failures else "warming", resolution.reason, backoff.given_up)
        server = self._servers[need.serving.key_for(pin.key)]
        return Fact(
            state=server.state,
            reason=server.reason,
            given_up=server.backoff.given_up,
            down=server.down,
            endpoints=(Endpoint("unix", str(server.socket)),),
            digest=server.pin.version_digest,
            resolved={**pin.resolved, "sha256": server.pin.digest} if server.pin.digest else pin.resolved,
        )

    async def _resolve(self, need: LoadNeed) -> None:
        resolution = self._resolutions[need]
        while True:
            try:
                async with self._resolving:
                    resolved = dict(await self._registry.resolve(need.uri))
                key = await asyncio.to_thread(key_of, str(resolved["resolved"]))
                pin = Pin(key, resolved)
                break
            except (RouterError, OSError, KeyError) as error:
                resolution.backoff.fail()
                reason = f"cannot be resolved: {_one_line(error)}"
                if reason != resolution.reason:
                    log.warning("model %s: %s %s", need.model, need.uri, reason)
                resolution.reason = reason
                self._on_change([need])
            await self._clock.sleep(resolution.backoff.pause)
        self._keep_pin(need, pin)
        self._take(need, pin)
        self._on_change([need])

    def _take(self, need: LoadNeed, pin: Pin) -> None:
        self._pins[need] = pin
        key = need.serving.key_for(pin.key)
        self._unused_since.pop(key, None)
        if key not in self._servers:
            server = _Server(pin, need.serving, self._sockets / f"{key}.sock")
            self._servers[key] = server
            self._tasks.start(server.name, lambda: self._bring_up(server))
            return
        self._pins[need] = self._servers[key].pin
        self._keep_pin(need, self._pins[need])

    async def _bring_up(self, server: _Server) -> None:
        while True:
            try:
                async with self._loading:
                    await self._load(server)
                break
            except (RouterError, OSError) as error:
                self._children.stop(server.name)
                server.backoff.fail()
                reason = f"cannot be loaded: {_one_line(error)}"
                if reason != server.reason:
                    log.warning("%s %s", server.pin.uri, reason)
                server.state, server.reason = "unready", reason
                self._tell(server)
            await self._clock.sleep(server.backoff.pause)
        server.state, server.reason = "ready", ""
        server.backoff.succeed()
        self._tell(server)

    async def _load(self, server: _Server) -> None:
        directory = self._models / server.pin.key
        self._say(server, "its artifacts are being fetched")
        digest = await self._registry.fetch(server.pin.uri, directory, server.pin.digest)
        if digest != server.pin.digest:
            server.pin = msgspec.structs.replace(server.pin, digest=digest)
            for need in self._needs_of(server):
                self._pins[need] = server.pin
                self._keep_pin(need, server.pin)
        python = None
        if server.serving.isolated:
            self._say(server, "its environment is being built")
            python = await self._registry.prepare(directory)
        self._say(server, "its server loads it and warms up")
        server.exit = None
        server.ended.clear()
        model = str(server.pin.resolved.get("name") or "model")
        version = str(server.pin.resolved.get("version") or server.pin.key)
        argv, env = self._command(Launch(server.socket, directory, model, version, server.serving, python))
        self._children.run(server.name, argv, env)
        await self._wait_until_it_answers(server)

    def _say(self, server: _Server, reason: str) -> None:
        if not server.backoff.failures:
            server.reason = reason

    async def _wait_until_it_answers(self, server: _Server) -> None:
        deadline = self._clock.monotonic() + LOAD_SECONDS
        async with _client_of(server) as client:
            while not await _answers(client):
                if server.ended.is_set():
                    raise await asyncio.to_thread(_why_it_ended, server)
                if self._clock.monotonic() > deadline:
                    raise UpstreamError(f"the model server did not answer GET /ping within {LOAD_SECONDS:.0f} s")
                await self._clock.sleep(PING_SECONDS)

    def heard(self, child: Child) -> None:
        """The supervisor reports on a child."""
        server = self._servers.get(child.name.removeprefix(PREFIX))
        if server is None or not child.name.startswith(PREFIX):
            return
        if child.state == "backoff":
            server.exit = child.exit
            server.ended.set()
        if server.state == "ready" and child.state == "backoff":
            server.reason = f"its server ended with code {child.exit} and is being restarted"
            self._count_end(server)
        elif server.state == "ready" and not server.down:
            server.reason = ""

    def _count_end(self, server: _Server) -> None:
        """Rule 7: gave it itself up, or how often did it end in the last while?"""
        now = self._clock.monotonic()
        server.ends = [at for at in server.ends if now - at < DOWN_WINDOW_SECONDS] + [now]
        if not server.down and (server.exit == GAVE_UP or len(server.ends) >= DOWN_AFTER):
            server.down = True
            self._tasks.start(server.name, lambda: self._watch_down(server))

    async def _watch_down(self, server: _Server) -> None:
        """Says why `server` is down, until it answers again."""
        server.reason = f"its server does not stay up: {_one_line(await asyncio.to_thread(_why_it_ended, server))}"
        log.warning("%s: %s", server.pin.uri, server.reason)
        self._tell(server)
        async with _client_of(server) as client:
            while not await _answers(client):
                await self._clock.sleep(PING_SECONDS)
        server.down, server.reason = False, ""
        server.ends.clear()
        log.info("%s: its server answers again", server.pin.uri)
        self._tell(server)

    def _needs_of(self, server: _Server) -> list[LoadNeed]:
        return [need for need, pin in self._pins.items() if need.serving.key_for(pin.key) == server.key]

    def _tell(self, server: _Server) -> None:
        self._on_change(self._needs_of(server))

    def sweep(self, in_force: Collection[str]) -> None:
        """Stops the servers that nothing needs (rule 6); `in_force` are the sockets that workers may send to.

        Call it every second or so, and only while all connected workers hold the latest snapshot.
        """
        now = self._clock.monotonic()
        needed = {need.serving.key_for(pin.key) for need, pin in self._pins.items()}
        running = {name.removeprefix(PREFIX) for name in self._children.known if name.startswith(PREFIX)}
        for key in running | set(self._servers):
            if key in needed or str(self._sockets / f"{key}.sock") in in_force:
                self._unused_since.pop(key, None)
            elif now - self._unused_since.setdefault(key, now) >= GRACE_SECONDS:
                del self._unused_since[key]
                self._take_down(key)

    def _take_down(self, key: str) -> None:
        self._tasks.stop(PREFIX + key)
        self._servers.pop(key, None)
        self._children.stop(PREFIX + key)
        log.info("model server %s is needed no more and was stopped", PREFIX + key)

    async def close(self) -> None:
        """Ends all work; the servers go on."""
        await self._tasks.close()


def _one_line(error: Exception) -> str:
    hint = error.hint if isinstance(error, RouterError) else ""
    text = error.message if isinstance(error, RouterError) else str(error)
    return " ".join(f"{text} ({hint})".split() if hint else text.split())


class _Fault(msgspec.Struct):
    error: str
    hint: str = ""


def _why_it_ended(server: _Server) -> UpstreamError:
    """What the server left beside its socket, where it came so far as to know what is wrong with its model."""
    try:
        told = msgspec.json.decode(server.socket.with_name(server.socket.name + ".fault").read_bytes(), type=_Fault)
    except (OSError, msgspec.MsgspecError):
        return UpstreamError(
            f"the model server ended with code {server.exit} before it answered",
            hint="its last line in the router's output says why",
        )
    return UpstreamError(told.error, hint=told.hint)


def _client_of(server: _Server) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(server.socket))
    return httpx.AsyncClient(transport=transport, timeout=5.0, trust_env=False)


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("http://localhost/ping")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
