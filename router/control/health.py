"""Forwarded versions: finds their addresses and asks them whether they answer.

Rules:
1. Any well-formed HTTP answer to `GET {base_path}/ping` but 502, 503 and 504 is an answer: servers of many kinds
   stand behind, and those three come from a proxy before a server that is not there.
2. A version is looked at every five seconds, more often until it is admitted, less often where there are so many
   endpoints that probes would pass fifty a second.
3. Names are resolved by threads of their own: a slow DNS delays nothing else.
4. A probe carries the version's credentials and checks certificates as the data plane does.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import httpx

from router.clock import Clock
from router.control.needs import Fact, ForwardNeed, Need
from router.control.pool import Found, Pool
from router.control.shared import Shared
from router.control.tasks import Tasks
from router.control.upstreams import addresses_of, headers_of, parse
from router.core.snapshot import Endpoint
from router.errors import OperatorError

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
PROBE_SECONDS = 2.0
NAME_SECONDS = 5.0
PROBES_PER_SECOND = 50
AT_A_TIME = 32
NO_ANSWER = (502, 503, 504)

Headers = tuple[tuple[str, str], ...]


class Probe(Protocol):
    """Asks an endpoint whether it answers."""

    async def __call__(self, asked: tuple[Endpoint, Headers]) -> str:
        """Empty, or the reason why there is no answer."""
        ...


class HttpProbe:
    """Probes over HTTP, each on a connection of its own."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, asked: tuple[Endpoint, Headers]) -> str:
        """See `Probe`."""
        endpoint, headers = asked
        where = f"{endpoint.address}:{endpoint.port}"
        try:
            status = await self._status(endpoint, headers)
        except httpx.TimeoutException:
            return f"{where} did not answer within {PROBE_SECONDS:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return f"{where}: {error or type(error).__name__}"
        return f"{where} answered GET {endpoint.base_path}/ping with {status}" if status in NO_ANSWER else ""

    async def _status(self, endpoint: Endpoint, headers: Headers) -> int:
        client = self._client = self._client or await self._open()
        scheme = "https" if endpoint.network == "tls" else "http"
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        async with client.stream(
            "GET",
            f"{scheme}://{host}:{endpoint.port}{endpoint.base_path}/ping",
            headers=[("host", endpoint.authority), ("accept", "*/*"), *headers],
            extensions={"sni_hostname": endpoint.server_name} if endpoint.server_name else {},
        ) as response:
            return response.status_code

    async def _open(self) -> httpx.AsyncClient:
        context = await asyncio.to_thread(ssl.create_default_context)
        return httpx.AsyncClient(
            verify=context,
            timeout=PROBE_SECONDS,
            trust_env=False,
            headers={"user-agent": "canary-router"},
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Closes what is open."""
        if self._client is not None:
            await self._client.aclose()


class Prober:
    """Looks after what is wanted. `admitted` are digests admitted in an earlier life."""

    def __init__(
        self,
        *,
        clock: Clock,
        admitted: Collection[str],
        on_change: Callable[[Collection[Need]], None],
        probe: Probe,
        addresses: Callable[[str], tuple[str, ...]] = addresses_of,
    ) -> None:
        self._clock = clock
        self._admitted = admitted
        self._on_change = on_change
        self._addresses = addresses
        self._pools: dict[ForwardNeed, Pool] = {}
        self._facts: dict[ForwardNeed, Fact] = {}
        self._sizes: dict[ForwardNeed, int] = {}
        self._endpoints = 0
        self._tasks = Tasks(clock)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="names")
        self._names = Shared(self._resolve, clock, fresh=NAME_SECONDS * 0.9, at_a_time=4)
        self._probes = Shared(probe, clock, fresh=0.2, at_a_time=AT_A_TIME)

    def want(self, needs: Collection[ForwardNeed]) -> None:
        """From now on exactly `needs` are wanted."""
        for need in [need for need in self._pools if need not in needs]:
            del self._pools[need]
            self._facts.pop(need, None)
            self._endpoints -= self._sizes.pop(need, 0)
            self._tasks.stop(need)
        for need in needs:
            if need not in self._pools:
                pool = self._pools[need] = Pool(need, admitted=need.digest in self._admitted)
                self._tasks.start(need, partial(self._look_after, need, pool))

    def fact(self, need: ForwardNeed) -> Fact:
        """What is known of `need`."""
        return self._facts.get(need) or Fact(reason="not looked at yet", digest=need.digest)

    async def _look_after(self, need: ForwardNeed, pool: Pool) -> None:
        while True:
            pool.find(await self._find(need))
            size = len(pool.endpoints)
            self._endpoints += size - self._sizes.get(need, 0)
            self._sizes[need] = size
            if pool.admitted:
                self._note(need, pool)
            await self._probe(pool)
            self._note(need, pool)
            await self._clock.sleep(self._pause(pool))

    def _note(self, need: ForwardNeed, pool: Pool) -> None:
        fact = pool.fact()
        if fact != self._facts.get(need):
            self._facts[need] = fact
            self._on_change([need])

    def _pause(self, pool: Pool) -> float:
        if not pool.admitted:
            return pool.backoff.pause
        return max(EVERY_SECONDS, self._endpoints / PROBES_PER_SECOND)

    async def _find(self, need: ForwardNeed) -> Found:
        reasons: list[str] = []
        endpoints: dict[str, tuple[Endpoint, ...]] = {}
        for url in need.urls:
            try:
                upstream = parse(url)
                addresses = await self._names.get(upstream.host)
            except OperatorError as error:
                reasons.append(str(error))
            except OSError as error:
                reasons.append(f"{url} cannot be resolved: {error.strerror or error}")
            else:
                endpoints[url] = tuple(upstream.endpoint(address) for address in addresses)
        headers: Headers | None = None
        try:
            headers = await asyncio.to_thread(headers_of, need.credentials) if need.credentials else ()
        except OperatorError as error:
            reasons.append(str(error))
        return Found(endpoints, headers, tuple(reasons))

    async def _resolve(self, host: str) -> tuple[str, ...]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._addresses, host)

    async def _probe(self, pool: Pool) -> None:
        endpoints, headers = pool.endpoints, pool.headers
        if headers is None:
            pool.probed({})
            return
        answers = await asyncio.gather(*(self._probes.get((endpoint, headers)) for endpoint in endpoints))
        pool.probed(dict(zip(endpoints, answers, strict=True)))

    async def close(self) -> None:
        """Ends all work."""
        await self._tasks.close()
        await self._probes.close()
        await self._names.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
