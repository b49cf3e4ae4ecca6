"""Asks the registry for what a version shows, and judges it as the router would: for `gate` and for `plan`.

Rules:
1. The same judgement as at apply; only who asks is another one.
2. A model server that is started for a smoke prediction ends with the question, and with whoever asked.
3. Nothing is kept: artifacts are fetched into a folder that goes away again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec

from router.clock import SystemClock
from router.config.schema import ModelConfig
from router.config.serving import Launch
from router.control.needs import ForwardNeed, needs_of
from router.control.plan_types import GateReport
from router.control.smoke import predict
from router.control.upstreams import addresses_of, headers_of, parse
from router.core.snapshot import Endpoint
from router.errors import OperatorError, RouterError, UpstreamError
from router.gates.evaluate import evaluate
from router.gates.facts import Seen, Smoke, seen_of
from router.registry import client
from router.registry.types import Resolved
from router.serving.spec import command

LOAD_SECONDS = 120.0
_PING_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Looker:
    """Asks `registry` (a URL, None where there is none); `thorough` fetches artifacts and tries a smoke prediction."""

    registry: str | None
    thorough: bool
    authors: frozenset[str] = frozenset()

    async def look(self, config: ModelConfig, version: str, region: str) -> GateReport:
        """What the gates of `config` say of `version` in `region`; never raises for what cannot be looked at."""
        stable = config.stable_in(region)
        if config.gates is None:
            return GateReport(version, stable, problem="this model has no gates")
        gates, note = config.gates, ""
        if gates.smoke and not self.thorough:
            gates, note = gates.model_copy(update={"smoke": False}), "the smoke prediction is left for the router"
        try:
            with TemporaryDirectory(prefix="canary-router-") as folder:
                seen, smoke = await self._version(config, version, region, Path(folder), smoke=gates.smoke)
            beside = seen if stable == version else await self._stable(config, stable) if gates.compares else None
        except RouterError as error:
            return GateReport(version, stable, problem=error.in_a_line, note=note)
        except OSError as error:
            return GateReport(version, stable, problem=str(error), note=note)
        now = SystemClock().wall()
        findings = evaluate(gates, seen, stable=beside, smoke=smoke, now=now, authors=self.authors)
        return GateReport(version, stable, findings, note=note)

    async def _stable(self, config: ModelConfig, stable: str) -> Seen | None:
        uri = _uri_of(config, stable)
        return await self._seen(uri) if uri else None

    async def _seen(self, uri: str) -> Seen:
        return seen_of(_plain(await client.resolve(uri, registry=self.registry)))

    async def _version(
        self, config: ModelConfig, version: str, region: str, folder: Path, *, smoke: bool
    ) -> tuple[Seen, Smoke | None]:
        uri = _uri_of(config, version)
        if not uri:
            return Seen(uri=f"{version}, whose config names no registered model"), None
        found = await client.resolve(uri, registry=self.registry)
        if not self.thorough:
            return seen_of(_plain(found)), None
        fetched = await client.fetch(found.resolved, to=folder / "model", registry=self.registry)
        seen = seen_of({**_plain(found), "sha256": fetched.digest})
        return seen, await _smoke(config, version, region, folder) if smoke else None


def _plain(found: Resolved) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(found)
    return plain


def _uri_of(config: ModelConfig, version: str) -> str:
    named = config.versions[version]
    return named.model_uri or named.registered or ""


async def _smoke(config: ModelConfig, version: str, region: str, folder: Path) -> Smoke:
    need = needs_of(config, (region,)).get((version, region))
    if isinstance(need, ForwardNeed):
        upstream = parse(need.urls[0])
        (address, *_) = await asyncio.to_thread(addresses_of, upstream.host)
        endpoint = upstream.endpoint(address)
        headers = await asyncio.to_thread(headers_of, need.credentials)
        return await predict(folder / "model", endpoint, headers)
    if need is None:
        return Smoke(passed=False, where=version, answered=f"not tried: it has no upstream in {region}")
    if config.versions[version].serving.isolated:
        return Smoke(passed=False, where=version, answered="not tried: it needs an environment of its own")
    try:
        async with _served(config, version, folder) as socket:
            return await predict(folder / "model", Endpoint("unix", str(socket)))
    except UpstreamError as error:
        return Smoke(passed=False, where=version, answered=error.message)


@asynccontextmanager
async def _served(config: ModelConfig, version: str, folder: Path) -> AsyncIterator[Path]:
    """The socket of a server of the model in `folder`, once it answers (rule 2)."""
    socket = folder / "s"
    launch = Launch(socket, folder / "model", config.model, version, config.versions[version].serving)
    argv, env = command(launch)
    lifeline, ours = os.pipe()
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            *("--lifeline", str(lifeline)),
            env=env,
            pass_fds=[lifeline],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await _until_it_answers(child, socket)
            yield socket
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()
    finally:
        os.close(ours)
        os.close(lifeline)


async def _until_it_answers(child: asyncio.subprocess.Process, socket: Path) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    deadline = SystemClock().monotonic() + LOAD_SECONDS
    async with httpx.AsyncClient(transport=transport, timeout=5.0, trust_env=False) as asking:
        while True:
            if child.returncode is not None:
                raise UpstreamError(f"the model server ended with code {child.returncode} before it answered")
            if SystemClock().monotonic() > deadline:
                raise UpstreamError(f"the model server did not answer within {LOAD_SECONDS:.0f} s")
            try:
                if (await asking.get("http://localhost/ping")).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                await SystemClock().sleep(_PING_SECONDS)


def version_of(config: ModelConfig, version: str) -> str:
    """`version`, where the config has it.

    Raises:
        OperatorError: it has not.
    """
    if version not in config.versions:
        raise OperatorError(
            f"model {config.model} has no version {version!r}", hint=f"its versions are {', '.join(config.versions)}"
        )
    return version
