from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
import trustme

from router.control.health import HttpProbe, Prober
from router.control.needs import Credential, ForwardNeed, Need
from router.core.snapshot import Endpoint, Network
from tests.unit.control.fakes import FakeClock, until

pytestmark = pytest.mark.anyio
NEED = ForwardNeed(("http://fraud:8080", "http://10.9.9.9:80/base"), "fraud")


@asynccontextmanager
async def server(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(attend, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1], heads
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def ask(port: int, network: Network = "tcp", name: str = "", headers: tuple[tuple[str, str], ...] = ()) -> str:
    probe = HttpProbe()
    endpoint = Endpoint(network, "127.0.0.1", port, "fraud.internal", name, "/base")
    try:
        return await probe((endpoint, headers))
    finally:
        await probe.close()


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 405, 500, 501])
async def test_any_answer_of_the_server_is_an_answer(status: int) -> None:
    async with server(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode()) as (port, heads):
        assert await ask(port, headers=(("x-key", "secret"),)) == ""
    assert heads[0].startswith(b"GET /base/ping HTTP/1.1\r\n")
    assert b"host: fraud.internal\r\n" in heads[0].lower()
    assert b"x-key: secret\r\n" in heads[0].lower()


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_proxy_before_nothing_is_no_answer(status: int) -> None:
    async with server(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode()) as (port, _):
        assert f"with {status}" in await ask(port)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n"])
async def test_what_is_not_http_is_no_answer(answer: bytes) -> None:
    async with server(answer) as (port, _):
        assert f"127.0.0.1:{port}" in await ask(port)


async def test_nobody_there_is_no_answer() -> None:
    async with server(b"") as (port, _):
        pass
    assert f"127.0.0.1:{port}" in await ask(port)


async def test_certificates_are_checked_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("fraud.internal").configure_cert(context)
    with authority.cert_pem.tempfile() as file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
        async with server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", context) as (port, _):
            assert await ask(port, "tls", "fraud.internal") == ""
            assert "certificate" in (await ask(port, "tls", "other.internal")).lower()


class Bench:
    def __init__(self, admitted: Collection[str] = ()) -> None:
        self.clock = FakeClock()
        self.names: dict[str, tuple[str, ...]] = {"fraud": ("10.0.0.1", "10.0.0.2"), "10.9.9.9": ("10.9.9.9",)}
        self.dead: set[str] = set()
        self.asked: list[Endpoint] = []
        self.changed: list[Need] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.prober = Prober(
            clock=self.clock,
            admitted=admitted,
            on_change=self.changed.extend,
            probe=self._probe,
            addresses=self._addresses,
        )

    def _addresses(self, host: str) -> tuple[str, ...]:
        if host not in self.names:
            raise OSError(-2, "Name or service not known")
        return self.names[host]

    async def _probe(self, asked: tuple[Endpoint, tuple[tuple[str, str], ...]]) -> str:
        await self.gate.wait()
        self.asked.append(asked[0])
        return "refused" if asked[0].address in self.dead else ""

    def health(self) -> dict[str, bool]:
        return {endpoint.address: endpoint.healthy for endpoint in self.prober.fact(NEED).endpoints}


@asynccontextmanager
async def bench(admitted: Collection[str] = ()) -> AsyncIterator[Bench]:
    made = Bench(admitted)
    try:
        yield made
    finally:
        await made.prober.close()


async def test_every_address_is_an_endpoint_and_one_answer_admits() -> None:
    async with bench() as there:
        there.dead = {"10.0.0.1", "10.0.0.2"}
        there.prober.want({NEED})
        assert there.prober.fact(NEED).state == "warming"
        await until(lambda: there.prober.fact(NEED).state == "ready", clock=there.clock)
        assert set(there.health()) == {"10.0.0.1", "10.0.0.2", "10.9.9.9"}
        assert there.changed == [NEED]


async def test_probes_flag_endpoints_and_never_all() -> None:
    async with bench() as there:
        there.prober.want({NEED})
        await until(lambda: there.prober.fact(NEED).state == "ready", clock=there.clock)
        there.dead = {"10.0.0.1"}
        await until(lambda: there.health()["10.0.0.1"] is False, clock=there.clock)
        there.dead = {"10.0.0.1", "10.0.0.2", "10.9.9.9"}
        await until(lambda: all(there.health().values()), clock=there.clock)
        assert there.prober.fact(NEED).state == "ready"


async def test_names_follow_dns_and_survive_its_failure() -> None:
    async with bench() as there:
        there.prober.want({NEED})
        await until(lambda: there.prober.fact(NEED).state == "ready", clock=there.clock)
        there.names["fraud"] = ("10.0.0.7",)
        await until(lambda: set(there.health()) == {"10.0.0.7", "10.9.9.9"}, clock=there.clock)
        del there.names["fraud"]
        await until(lambda: "cannot be resolved" in there.prober.fact(NEED).reason, clock=there.clock)
        assert set(there.health()) == {"10.0.0.7", "10.9.9.9"}


async def test_admitted_in_an_earlier_life_is_ready_before_any_probe_answers() -> None:
    async with bench({NEED.digest}) as there:
        there.gate.clear()
        there.prober.want({NEED})
        await until(lambda: there.prober.fact(NEED).state == "ready", clock=there.clock)
        assert there.asked == []


async def test_a_credential_that_is_missing_keeps_it_out_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    need = ForwardNeed(("http://fraud:8080",), "fraud", (Credential("x-key", "env", "CONTROL_TEST_KEY"),))
    monkeypatch.delenv("CONTROL_TEST_KEY", raising=False)
    async with bench() as there:
        there.prober.want({need})
        await until(lambda: there.prober.fact(need).given_up, clock=there.clock)
        assert "CONTROL_TEST_KEY is not set" in there.prober.fact(need).reason
        assert there.asked == []
        monkeypatch.setenv("CONTROL_TEST_KEY", "k")
        await until(lambda: there.prober.fact(need).state == "ready", clock=there.clock)
        assert there.prober.fact(need).headers == (("x-key", "k"),)


async def test_what_is_wanted_no_more_is_left_alone() -> None:
    async with bench() as there:
        there.prober.want({NEED})
        await until(lambda: there.prober.fact(NEED).state == "ready", clock=there.clock)
        there.prober.want(set())
        assert there.prober.fact(NEED).state == "warming"
        await asyncio.sleep(0)
        before = len(there.asked)
        for _ in range(20):
            there.clock.advance(5)
            await asyncio.sleep(0)
        assert len(there.asked) == before
