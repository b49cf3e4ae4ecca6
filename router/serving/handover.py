"""A process that is held up by one prediction hands the others on to the processes beside it.

Rules:
1. Requests go as they came, over the version's inner socket, which all its processes listen on.
2. One connection per request; whatever goes wrong is a 503, as where nobody serves the version.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from router.serving import answers
from router.serving.answers import Answer
from router.serving.request import Request

_GONE = answers.refusal(503, "TEMPORARILY_UNAVAILABLE", "The model's process is being replaced.")
_LENGTH = b"content-length"
_DROPPED = frozenset({_LENGTH, b"connection", b"transfer-encoding", b"expect"})


async def hand_over(request: Request, inner: Path) -> Answer:
    """The answer that another process gives to `request`."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(inner))
        try:
            writer.write(_bytes_of(request))
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            named = [(name, value) for name, _, value in (line.partition(b": ") for line in head[1:-2])]
            length = int(dict(named)[_LENGTH])
            return _answer(int(head[0].split()[1]), named, await reader.readexactly(length))
        finally:
            writer.close()
    except (OSError, EOFError, ValueError, KeyError, IndexError):
        return _GONE


def _bytes_of(request: Request) -> bytes:
    kept = [name + b": " + value for name, value in request.headers.items() if name not in _DROPPED]
    lines = [
        b"%s %s HTTP/1.1" % (request.method, request.path.encode("latin-1")),
        *kept,
        b"connection: close",
        b"content-length: %d" % len(request.body),
    ]
    return b"\r\n".join([*lines, b"", request.body])


def _answer(status: int, named: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in named]
    media_type = next((value for name, value in headers if name == "content-type"), answers.JSON)
    further = tuple(
        (name, value) for name, value in headers if name not in {"content-type", "content-length", "connection"}
    )
    return Answer(status, body, media_type, further)
