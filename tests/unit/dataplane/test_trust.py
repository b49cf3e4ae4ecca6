"""Certificates are read once, beside the loop."""

from __future__ import annotations

import asyncio
import ssl
import threading

import pytest

from router.core.snapshot import Endpoint
from router.dataplane.pool import Pools
from router.dataplane.trust import Trust
from tests.support.wait import eventually_async

pytestmark = pytest.mark.anyio


class Slow:
    """Stands in for `ssl.create_default_context`; returns when `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls: list[int] = []

    def __call__(self) -> ssl.SSLContext:
        self.calls.append(threading.get_ident())
        assert self.release.wait(10)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    made = Slow()
    monkeypatch.setattr(ssl, "create_default_context", made)
    return made


async def test_whoever_waits_gets_them_even_if_another_gives_up(slow: Slow) -> None:
    trust = Trust()
    impatient, patient = asyncio.create_task(trust.context()), asyncio.create_task(trust.context())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    slow.release.set()

    context = await patient

    assert context is await trust.context()
    assert len(slow.calls) == 1
    assert slow.calls[0] != threading.get_ident()


async def test_a_snapshot_with_a_tls_endpoint_begins_to_read_them(slow: Slow) -> None:
    pools = Pools(asyncio.get_running_loop(), 10)
    pools.get(Endpoint("tcp", "127.0.0.1", 80))
    assert not slow.calls
    slow.release.set()
    for port in (443, 444):
        pools.get(Endpoint("tls", "127.0.0.1", port, server_name="a"))
    await eventually_async(lambda: slow.calls)
    assert len(slow.calls) == 1
