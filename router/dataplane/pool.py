"""The connections to model servers that are open, and how the servers do.

Rules:
1. A connection is kept idle for less time than servers keep theirs, so that a reused one is rarely dead: for half as
   long as the server was seen to keep one lately.
2. Opening a connection is the only step that needs a task; it is cancelled with the attempt that wanted it.
3. A busy server is asked for room once in a while, not for each request; its limit holds for each.
"""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import TYPE_CHECKING, cast

from router.core.congestion import BUSY, Congestion
from router.core.ejection import EndpointHealth
from router.core.snapshot import Endpoint
from router.dataplane.problems import Problems
from router.dataplane.repeat import Forms
from router.dataplane.trust import Trust
from router.dataplane.upstream import UpstreamConnection

if TYPE_CHECKING:
    from router.dataplane.exchange import Exchange

KEEP_IDLE = 3.0
RECOVER_IDLE = 0.001
ROOM_SECONDS = 0.005
"""How long a busy server that has room is taken to have it."""


class Pool:
    """The connections to one endpoint, and how the endpoint has done."""

    def __init__(self, endpoint: Endpoint, pools: Pools) -> None:
        self.endpoint = endpoint
        self.idle: list[UpstreamConnection] = []
        self.in_flight = 0
        self.health = EndpointHealth()
        self.forms = Forms()
        self.limit = pools.in_flight_per_endpoint
        self.busy = min(BUSY, self.limit)
        """From so many requests under way on `is_full` has to be asked."""
        self.answers = 0
        self.took = 0.0
        self.keep_idle = KEEP_IDLE
        self._closes_early = False
        self.roomy_until = 0.0
        """Until then `is_full` need not be asked, but for the limit (rule 3)."""
        self._congestion = Congestion()
        self._pools = pools

    def is_full(self, now: float, left: float) -> bool:
        """Whether it should get no further request that can wait for `left` seconds."""
        if self.in_flight >= self.limit or not self._congestion.has_room(
            now, self.in_flight, self.answers, self.took, left
        ):
            return True
        if not self._congestion.crowded:
            self.roomy_until = now + ROOM_SECONDS
        return False

    def take(self, now: float) -> UpstreamConnection | None:
        """An idle connection that is still good, the one used last first."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if now - connection.idle_since < self.keep_idle and not connection.transport.is_closing():
                return connection
            connection.close()
        return None

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has closed."""
        if connection in self.idle:
            self.idle.remove(connection)
            self.closed_idle(monotonic() - connection.idle_since)

    def closed_idle(self, age: float) -> None:
        """The server closed a connection that had been idle for `age` seconds (rule 1)."""
        self.keep_idle = min(self.keep_idle, age / 2)
        self._closes_early = True

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long, and learns: call it about once a second."""
        self._congestion.note(now, self.answers, self.took)
        if self._closes_early:
            self._closes_early = False
        elif self.keep_idle < KEEP_IDLE:
            # A server that was restarted closed them all once, whatever their age: that is forgotten within seconds.
            self.keep_idle = min(KEEP_IDLE, 2 * self.keep_idle + RECOVER_IDLE)
        self.close_idle(now - KEEP_IDLE)

    def close_idle(self, before: float = float("inf")) -> None:
        """Closes what is idle since a moment before `before`."""
        keep = [connection for connection in self.idle if connection.idle_since > before]
        if len(keep) < len(self.idle):
            old = set(self.idle) - set(keep)
            self.idle = keep
            for connection in old:
                connection.close()

    def connect(self, exchange: Exchange) -> asyncio.Task[None]:
        """Opens a connection and hands it to `exchange`, or tells it why there is none."""
        return self._pools.loop.create_task(self._connect(exchange))

    async def _connect(self, exchange: Exchange) -> None:
        made: list[UpstreamConnection] = []

        def factory() -> UpstreamConnection:
            made.append(UpstreamConnection(self))
            return made[0]

        try:
            await self._pools.open(self.endpoint, factory)
        except ssl.SSLError:
            exchange.connect_failed(Problems.TLS)
        except OSError:
            exchange.connect_failed(Problems.REFUSED)
        except asyncio.CancelledError:
            for connection in made:
                if hasattr(connection, "transport"):
                    connection.abort()
            raise
        else:
            if made[0].transport.is_closing():
                exchange.connect_failed(Problems.BROKE)
            else:
                exchange.connected(made[0])


class Pools:
    """All pools of a worker, by endpoint; two versions on one endpoint share its pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, in_flight_per_endpoint: int) -> None:
        self.loop = loop
        self.in_flight_per_endpoint = in_flight_per_endpoint
        self._pools: dict[tuple[str, str, int, str], Pool] = {}
        self._trust = Trust()

    def get(self, endpoint: Endpoint) -> Pool:
        """The pool of `endpoint`."""
        key = (endpoint.network, endpoint.address, endpoint.port, endpoint.server_name)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(endpoint, self)
            if endpoint.network == "tls":
                self._trust.begin()
        return pool

    async def open(self, endpoint: Endpoint, factory: type[asyncio.Protocol] | object) -> None:
        """Opens one connection.

        Raises:
            OSError: it cannot be opened; `ssl.SSLError` where the certificate does not hold.
        """
        make = cast("type[asyncio.Protocol]", factory)
        if endpoint.network == "unix":
            await self.loop.create_unix_connection(make, endpoint.address)
        elif endpoint.network == "tls":
            context = await self._trust.context()
            await self.loop.create_connection(
                make, endpoint.address, endpoint.port, ssl=context, server_hostname=endpoint.server_name
            )
        else:
            await self.loop.create_connection(make, endpoint.address, endpoint.port)

    def ejected(self, now: float) -> set[Pool]:
        """The endpoints that are left out now."""
        return {pool for pool in self._pools.values() if pool.health.ejected_until > now}

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long."""
        for pool in self._pools.values():
            pool.sweep(now)

    def prune(self, in_use: set[Pool]) -> bool:
        """Forgets the pools that neither a route nor a request uses; False where a request still holds one back."""
        pruned = True
        for key, pool in list(self._pools.items()):
            if pool in in_use:
                continue
            pool.close_idle()
            if pool.in_flight:
                pruned = False
            else:
                del self._pools[key]
        return pruned

    def close(self) -> None:
        """Closes every idle connection."""
        for pool in self._pools.values():
            pool.close_idle()
