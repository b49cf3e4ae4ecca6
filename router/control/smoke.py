"""The smoke prediction: a model's own input example, put to the version as it is served.

Rules:
1. The example is the one that MLflow keeps beside the model; a model without one has failed.
2. An answer with status 200 passes, anything else fails, and nothing of an answer's content is repeated.
3. It goes straight to the version's endpoint, past the router's counts: it is no observation.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx

from router.core.snapshot import Endpoint
from router.gates.facts import Smoke

EXAMPLE = "serving_input_example.json"
MOST_BYTES = 16 * 1024 * 1024
SECONDS = 30.0

Headers = tuple[tuple[str, str], ...]


async def predict(directory: Path, endpoint: Endpoint, headers: Headers = ()) -> Smoke:
    """Puts the example of the model in `directory` to `endpoint`; never raises for what goes wrong on the way."""
    where = _where(endpoint)
    example = await asyncio.to_thread(_example, directory)
    if example is None:
        return Smoke(passed=False, where=where, answered="not tried: the model has no input example")
    try:
        status = await _status(endpoint, headers, example)
    except httpx.TimeoutException:
        return Smoke(passed=False, where=where, answered=f"no answer within {SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return Smoke(passed=False, where=where, answered=f"no answer: {error or type(error).__name__}")
    return Smoke(passed=status == httpx.codes.OK, where=where, answered=f"status {status}")


def _where(endpoint: Endpoint) -> str:
    if endpoint.network == "unix":
        return f"POST /invocations at {endpoint.address}"
    return f"POST {endpoint.base_path}/invocations at {endpoint.authority}"


def _example(directory: Path) -> bytes | None:
    path = directory / EXAMPLE
    try:
        return path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
    except OSError:
        return None


async def _status(endpoint: Endpoint, headers: Headers, body: bytes) -> int:
    scheme = "https" if endpoint.network == "tls" else "http"
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    unix = endpoint.network == "unix"
    place = "localhost" if unix else f"{host}:{endpoint.port}"
    async with (
        await _client(endpoint) as client,
        client.stream(
            "POST",
            f"{scheme}://{place}{endpoint.base_path}/invocations",
            content=body,
            headers=[("host", endpoint.authority), ("content-type", "application/json"), *headers],
            extensions={"sni_hostname": endpoint.server_name} if endpoint.server_name else {},
        ) as response,
    ):
        return response.status_code


async def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    verify: ssl.SSLContext | bool = False
    if endpoint.network == "tls":
        verify = await asyncio.to_thread(ssl.create_default_context)
    uds = endpoint.address if endpoint.network == "unix" else None
    transport = httpx.AsyncHTTPTransport(uds=uds, verify=verify)
    return httpx.AsyncClient(transport=transport, timeout=SECONDS, trust_env=False)
