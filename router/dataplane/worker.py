"""One data-plane process: uvicorn hosts our protocol on the inherited sockets.

Rules:
1. It serves with the snapshot it holds, whatever happens to control.
2. It listens only once it holds a snapshot, or has waited long enough to say 503 instead.
3. SIGTERM: listening stops, what is under way finishes, idle connections close. Before it may come SIGUSR1, from when
   on it is not ready: load balancers shall stop sending clients here while they are still served.
4. Nothing on the request path waits: not for control, not for a name, not for a disk.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn

from router.core.outcome import ArmBatch, BadEvent, InFlight, OutcomeBatch
from router.core.wire import SnapshotUpdate
from router.dataplane.headers import RequestNames
from router.dataplane.limits import Limits
from router.dataplane.link import Link, read_kept
from router.dataplane.pool import Pools
from router.dataplane.protocol import ClientConnection
from router.dataplane.recorder import Record, Recorder
from router.dataplane.routes import Compiler, LiveArm, Route, Table
from router.dataplane.timers import Steps, Wheel
from router.dataplane.witness import Witness

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
FLUSH_SOON_SECONDS = 0.005
LOOK_SECONDS = 0.05
SWEEP_SECONDS = 1.0
WAIT_FOR_SNAPSHOT_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker is told at its start. `listen` maps a region to its inherited listening socket."""

    run: Path
    index: int
    listen: Mapping[str, socket.socket]
    trusted_proxies: tuple[str, ...] = ()
    grace: float = 30.0
    identity: str = ""
    limits: Limits = field(default_factory=Limits)


class Worker:
    """The state that the connections of one process share."""

    def __init__(self, config: WorkerConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.limits = config.limits
        self.small_read = min(config.limits.head, config.limits.url)
        self.names = RequestNames()
        self.wheel = Wheel(loop)
        self.pools = Pools(loop, config.limits.in_flight_per_endpoint)
        self.compiler = Compiler(self.pools)
        self.tables = {region: Table(region) for region in config.listen}
        self.connections: set[Any] = set()
        self.records: list[Record] = []
        self.recorder = Recorder()
        self.witness = Witness(self.flush_soon)
        self.in_flight = 0
        self.held = 0
        self.draining = False
        self.leaving = False
        self.link = Link(config.run / "workers.sock", config.index, os.getpid(), self.apply)
        self._told: tuple[InFlight, ...] = ()
        self._holds = False
        self._edits = 0
        self._tidy_at = 0
        self._sticky: dict[str, bytes] = {}
        self._sticky_models: dict[bytes, int] = {}
        self._batches = count(1)
        self._flushing: asyncio.TimerHandle | None = None
        self._first_snapshot = asyncio.Event()
        self._server: _Server | None = None
        self._by_address = {sock.getsockname()[:2]: self.tables[region] for region, sock in config.listen.items()}
        self._by_port = {port: table for (_, port), table in self._by_address.items()}
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in config.trusted_proxies]
        self._pseudonym = b"canary-router-" + hashlib.sha256(config.identity.encode()).hexdigest()[:8].encode()
        # All in C: a new id for each request, unique since its first half is random for each process.
        self.new_id = map((os.urandom(8).hex().encode() + b"%012x").__mod__, count(1)).__next__

    # -- what connections ask

    @property
    def ready(self) -> bool:
        """Whether clients should be sent here: there is a snapshot, and the router is not about to end."""
        return self._holds and not (self.leaving or self.draining)

    def table_of(self, sockname: tuple[str, int]) -> Table:
        """The table of the region whose listener a connection came in by."""
        table = self._by_address.get(sockname[:2])
        return self._by_port[sockname[1]] if table is None else table

    def trusts(self, peer: bytes) -> bool:
        """Whether `peer` may say for whom it speaks."""
        if not self._trusted:
            return False
        try:
            address = ipaddress.ip_address(peer.decode("ascii").partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    def forwarding(
        self,
        peer: bytes,
        host: bytes,
        *,
        proto: bytes = b"http",
        asked_for: bytes = b"",
        before: bytes = b"",
        forwarded: bytes = b"",
        via: bytes = b"",
    ) -> bytes:
        """The forwarding header lines of requests from `peer` that were sent to `host`.

        Args:
            peer: the address at the other end of the connection.
            host: what the request says in Host.
            proto, asked_for, before, forwarded: what a trusted peer says in X-Forwarded-Proto, -Host and -For and in
                Forwarded.
            via: the proxies before, whoever says so.
        """
        node = b'"[%b]"' % peer if b":" in peer else peer
        return (
            b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n"
            b'forwarded: %bfor=%b;host="%b";proto=%b\r\nvia: %b1.1 %b\r\n'
            % (
                before + b", " + peer if before else peer,
                proto,
                asked_for or host,
                forwarded + b", " if forwarded else b"",
                node,
                host,
                proto,
                via + b", " if via else b"",
                self._pseudonym,
            )
        )

    def came_through_here(self, via: bytes) -> bool:
        """Whether a Via header names this router."""
        return self._pseudonym in via

    def over_budget(self) -> bool:
        """Whether bodies held whole take all the memory they may."""
        return self.held > self.limits.held_bodies

    def flush_soon(self) -> None:
        """A failure is in the records: control should know within milliseconds."""
        if self._flushing is None:
            self._flushing = self.loop.call_later(FLUSH_SOON_SECONDS, self._flush)

    # -- snapshots

    async def apply(self, update: SnapshotUpdate) -> None:
        """Puts a snapshot in force, model by model."""
        steps = Steps()
        if update.base is None:
            for table in self.tables.values():
                for name in table.names() - update.models.keys():
                    self._remove(name)
        for name, model in update.models.items():
            self._edits += 1
            for region, table in self.tables.items():
                route = model.regions.get(region)
                if route is None:
                    table.remove(name)
                else:
                    live = self.compiler.route(model, route)
                    table.put(live)
                    self._leave(live)
            self._note_sticky(name, model.sticky_header)
            await steps.pause()
        for name in update.removed:
            self._remove(name)
        self._holds = True
        self._first_snapshot.set()

    def _leave(self, route: Route) -> None:
        """Requests that wait for a version that was rolled back go to stable at once."""
        gone = {arm.key.version for arm in route.arms if arm.state == "rolled_back"}
        if not gone or not any(self.compiler.load(route, version).requests for version in gone):
            return
        region = route.stable.key.region
        for connection in list(self.connections):
            waiting = connection.current
            if (
                waiting is not None
                and waiting.dispatched
                and waiting.route.name == route.name
                and waiting.arm.key.region == region
                and waiting.arm.key.version in gone
            ):
                waiting.rolled_back()

    def _remove(self, model: str) -> None:
        self._edits += 1
        for table in self.tables.values():
            table.remove(model)
        self._note_sticky(model, "")

    def _note_sticky(self, model: str, header: str) -> None:
        name = header.lower().encode()
        before = self._sticky.pop(model, b"")
        if name:
            self._sticky[model] = name
        if name != before and self._count_sticky(name, 1) | self._count_sticky(before, -1):
            self.names.set_sticky(self._sticky_models)

    def _count_sticky(self, name: bytes, more: int) -> bool:
        """One model more (1) or less (-1) takes its key from `name`; whether it is the first or was the last."""
        if not name:
            return False
        models = self._sticky_models.pop(name, 0) + more
        if models:
            self._sticky_models[name] = models
        return models == max(more, 0)

    # -- outcomes

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self.records:
            records, self.records = self.records, []
            self.recorder.fold(records)
        if self.link.up:
            arms, bad = self.recorder.take(), self.witness.take()
            if arms or bad:
                self._send(arms, None, bad)

    def _send(
        self, arms: tuple[ArmBatch, ...], in_flight: tuple[InFlight, ...] | None, bad: tuple[BadEvent, ...] = ()
    ) -> None:
        self.link.send(OutcomeBatch(self.config.index, os.getpid(), next(self._batches), arms, in_flight, bad))

    def _look(self) -> None:
        """Which requests under way have become slow, where anybody wants to know."""
        if any(table.bounded for table in self.tables.values()):
            self.witness.look(self.connections, monotonic())

    def _tell_gauges(self) -> None:
        """What is under way and ejected now; a second's delay does not matter for a gauge."""
        in_flight = self._in_flight()
        if self.link.up and in_flight != self._told:
            self._told = in_flight
            self._send((), in_flight)

    def _in_flight(self) -> tuple[InFlight, ...]:
        ejected = self.pools.ejected(monotonic())
        counts: dict[tuple[str, str, str], int] = {}
        if ejected:
            for arm in self._arms():
                key = (arm.key.model, arm.key.region, arm.key.version)
                counts[key] = sum(peer.pool in ejected for peer in arm.peers)
        return tuple(
            InFlight(*key, load.requests, counts.get(key, 0))
            for key, load in self.compiler.loads.items()
            if load.requests or counts.get(key)
        )

    def _arms(self) -> Iterator[LiveArm]:
        for table in self.tables.values():
            for route in table.routes():
                yield from route.arms

    # -- the process

    async def run(self) -> None:
        """Serves until SIGTERM."""
        background = [
            self.loop.create_task(self.link.run()),
            self.loop.create_task(self._every(FLUSH_SECONDS, self._flush)),
            self.loop.create_task(self._every(LOOK_SECONDS, self._look)),
            self.loop.create_task(self._every(SWEEP_SECONDS, self._sweep)),
            self.loop.create_task(self._keep_tidy()),
        ]
        kept = read_kept(self.config.run / "snapshot.bin")
        if kept is not None:
            await self.apply(kept)
        try:
            await asyncio.wait_for(self._first_snapshot.wait(), WAIT_FOR_SNAPSHOT_SECONDS)
        except TimeoutError:
            log.warning("worker %d: no snapshot from control yet; answering 503", self.config.index)
        tune_gc()
        if not self.draining:
            for sock in self.config.listen.values():
                # Inherited by what it accepts: megabytes that a slow client does not read stay out of the kernel.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.limits.write_buffer)
            self._server = _Server(self)
            await self._server.serve(sockets=list(self.config.listen.values()))
        self._flush()
        for task in background:
            task.cancel()
        self.pools.close()

    def leave(self) -> None:
        """The router is about to end: not ready from now on, everything else as before until `stop`."""
        self.leaving = True

    def stop(self) -> None:
        """Begins to drain, as SIGTERM does; `run` returns when what is under way has finished."""
        if self._server is None:
            self.draining = True
            self._first_snapshot.set()
        else:
            self._server.should_exit = True

    async def _every(self, seconds: float, do: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            do()

    def _sweep(self) -> None:
        now = monotonic()
        self.pools.sweep(now)
        self._tell_gauges()

    async def _keep_tidy(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if self._edits != self._tidy_at:
                await self._tidy(self._edits)

    async def _tidy(self, edits: int) -> None:
        """Only a snapshot can make a pool or a load superfluous; what a request still uses is looked at again."""
        routes = [route for table in self.tables.values() for route in table.routes()]
        tidy = await self.compiler.tidy(routes, lambda: self._edits == edits)
        self._tidy_at = edits if tidy else 0

    def connection(self, **_: object) -> ClientConnection:
        """What uvicorn calls for each connection."""
        return ClientConnection(self)


def tune_gc() -> None:
    """Lets the collector look at what requests make, less often, and not at the tables and modules again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class _Server(uvicorn.Server):
    """uvicorn, told when the worker drains."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(
            uvicorn.Config(
                _no_app,
                http=worker.connection,  # type: ignore[arg-type]  # any callable with uvicorn's keywords does
                loop="none",
                lifespan="off",
                ws="none",
                proxy_headers=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=max(1, int(worker.config.grace)),
                backlog=4096,
            )
        )
        self._worker = worker
        self.server_state.connections = worker.connections

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: drains. uvicorn would raise it again at the end, before the last outcomes have left."""
        self._worker.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, then lets what is under way finish."""
        self._worker.draining = True
        await super().shutdown(sockets)


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    """uvicorn wants an application; our protocol never calls it."""
    raise RuntimeError("the data plane has no ASGI application")
