"""Tests of router.serving.protocol: bytes on a socket, around a service that is only a function."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from router.serving.answers import Answer
from router.serving.line import Job
from router.serving.protocol import Connection
from router.serving.request import Request
from router.serving.service import Deliver, Service
from tests.support.wait import eventually_async

pytestmark = pytest.mark.anyio


class State:
    """Who is connected."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.joined = self.connections.add
        self.left = self.connections.discard


class Later:
    """A service that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[Request, Deliver, Job]] = asyncio.Queue()

    def handle(self, request: Request, deliver: Deliver) -> Job:
        job = Job(deliver)
        self.asked.put_nowait((request, deliver, job))
        return job


class Echo:
    """A service that answers at once with what it was asked."""

    def handle(self, request: Request, deliver: Deliver) -> None:
        said = request.method + b" " + request.path.encode() + b" " + request.body
        deliver(Answer(200, said, "text/plain", (("x-of", request.headers.get(b"x-is", b"").decode()),)))


class Wire:
    """The client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: State) -> None:
        self.reader, self.writer, self.state = reader, writer, state

    def send(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode())

    async def answer(self) -> tuple[str, bytes]:
        """Head and body of the next answer."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return head, await asyncio.wait_for(self.reader.readexactly(length), 30)


@asynccontextmanager
async def connected(service: Any, **options: Any) -> AsyncIterator[Wire]:
    """A connection to `service`."""
    state = State()
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    make: Callable[[], Connection] = lambda: Connection(cast("Service", service), state, **options)  # noqa: E731 - typed
    transport, _ = await loop.connect_accepted_socket(make, theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield Wire(reader, writer, state)
    finally:
        writer.close()
        transport.close()


POST = "POST /x?q HTTP/1.1\nHost: m\nX-Is: y\nContent-Length: 2\n\nab"


async def test_a_request_and_its_answer() -> None:
    async with connected(Echo()) as wire:
        wire.send(POST)
        head, body = await wire.answer()
    assert body == b"POST /x ab"
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "x-of: y\r\n" in head


async def test_pieces_and_chunks_are_put_together() -> None:
    async with connected(Echo()) as wire:
        for piece in ("POST /", "y HTTP/1.1\nTransfer-En", "coding: chunked\n\n1\n", "a\n2\nbc\n0\n", "\n"):
            wire.send(piece)
            await asyncio.sleep(0)
        assert (await wire.answer())[1] == b"POST /y abc"


async def test_pipelined_requests_are_answered_in_order() -> None:
    service = Later()
    async with connected(service) as wire:
        wire.send(POST + POST.replace("/x", "/z"))
        _, first, _ = await service.asked.get()
        assert service.asked.empty()
        first(Answer(200, b"1", "text/plain"))
        request, second, _ = await asyncio.wait_for(service.asked.get(), 30)
        second(Answer(200, b"2", "text/plain"))
        assert request.path == "/z"
        assert [(await wire.answer())[1] for _ in range(2)] == [b"1", b"2"]


async def test_head_and_close_and_continue() -> None:
    async with connected(Echo()) as wire:
        wire.send("POST /c HTTP/1.1\nExpect: 100-continue\nContent-Length: 1\n\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send("!")
        assert (await wire.answer())[1] == b"POST /c !"
        wire.send("HEAD /h HTTP/1.1\nConnection: close\n\n")
        left = await asyncio.wait_for(wire.reader.read(), 30)
    assert b"connection: close\r\n" in left
    assert b"content-length: 8\r\n" in left
    assert left.endswith(b"\r\n\r\n")


async def test_what_is_no_http_is_400_and_the_end() -> None:
    async with connected(Echo()) as wire:
        wire.send("no such thing\n\n")
        left = await asyncio.wait_for(wire.reader.read(), 30)
    assert left.startswith(b"HTTP/1.1 400 ")


async def test_who_leaves_is_marked_as_gone() -> None:
    service = Later()
    async with connected(service) as wire:
        wire.send(POST)
        _, deliver, job = await service.asked.get()
        wire.writer.close()
        await eventually_async(lambda: not wire.state.connections)
        assert job.gone
        deliver(Answer(200, b"too late", "text/plain"))


async def test_a_prediction_that_takes_too_long_is_504_and_its_late_answer_is_nobodys() -> None:
    service = Later()
    async with connected(service, timeout=0.05) as wire:
        wire.send(POST)
        head, _ = await wire.answer()
        _, late, job = await service.asked.get()
        assert head.startswith("HTTP/1.1 504 ")
        assert job.gone
        wire.send(POST)
        _, second, _ = await asyncio.wait_for(service.asked.get(), 30)
        late(Answer(200, b"late", "text/plain"))
        second(Answer(200, b"second", "text/plain"))
        assert (await wire.answer())[1] == b"second"


async def test_at_the_end_idle_connections_close_and_others_answer_first() -> None:
    service = Later()
    async with connected(service) as idle, connected(service) as busy:
        busy.send(POST)
        _, deliver, _ = await service.asked.get()
        for wire in (idle, busy):
            next(iter(wire.state.connections)).shutdown()
        assert await asyncio.wait_for(idle.reader.read(), 30) == b""
        deliver(Answer(200, b"done", "text/plain"))
        assert (await asyncio.wait_for(busy.reader.read(), 30)).endswith(b"done")
