"""Tests of router.serving.handover: a request as it came, an answer as it was given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.serving.handover import hand_over
from router.serving.request import Request

pytestmark = pytest.mark.anyio
REQUEST = Request(
    b"POST",
    "/v2/models/m/infer",
    {b"content-type": b"application/json", b"content-length": b"7", b"connection": b"keep-alive", b"x-id": b"1"},
    b"{}",
)


@asynccontextmanager
async def beside(path: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """Another process that gives `answer`; yields what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n{}"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield asked


async def test_a_request_goes_and_its_answer_comes_back(tmp_path: Path) -> None:
    lines = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nx-of: y\r\nconnection: close\r\n"
    async with beside(tmp_path / "s", lines + b"content-length: 3\r\n\r\nno!") as asked:
        answer = await hand_over(REQUEST, tmp_path / "s")
    assert (answer.status, answer.body, answer.media_type, answer.headers) == (
        400,
        b"no!",
        "text/plain",
        (("x-of", "y"),),
    )
    assert asked == [
        (
            b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-type: application/json\r\nx-id: 1\r\nconnection: close\r\n"
            b"content-length: 2\r\n\r\n{}"
        )
    ]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", b"?"]
)
async def test_what_goes_wrong_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    async with beside(tmp_path / "s", answer):
        assert (await hand_over(REQUEST, tmp_path / "s")).status == 503


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    assert (await hand_over(REQUEST, tmp_path / "none")).status == 503
