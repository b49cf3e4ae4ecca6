"""A model server in a process of its own that misbehaves on command: `python -m loadtest.faults.upstream PORT HOST`.

Rules:
1. Commands are JSON lines on stdin, each answered by one JSON line on stdout: `{"set": {...}}` changes its behaviour,
   `{"ask": true}` reports what it has done. It ends when stdin does.
2. Every POST that it began to compute is counted by its `x-request-id`; probes (`GET /ping`) never are.
3. With slots it computes so many at a time, in the order of arrival, and goes on with what nobody waits for any more,
   as servers do that hand work to threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
from collections import Counter, deque
from typing import Any, cast

import uvloop

ANSWER = b'{"predictions":[' + b",".join([b"0.5"] * 20) + b"]}"
LARGE = b"x" * (3 << 20)
PAGE = b"x" * (256 << 10)
BODIES = {b"/large": LARGE, b"/page": PAGE}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *([^\r]+)", re.IGNORECASE)


class Behaviour:
    """What every connection looks at. Times in seconds.

    `delay` before each answer; `hang`: none ever comes; `status` of all of them; `close_idle`: the connection is closed
    at a random moment within so long after an answer (None: never); `slots` computed at a time (0: any number).
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.hang = False
        self.status = 200
        self.close_idle: float | None = None
        self.slots = 0
        self.computed: Counter[str] = Counter()
        self.received = 0
        self.open = 0
        self.queue: deque[Connection] = deque()
        self.busy = 0
        self.random = random.Random(1)

    def report(self) -> dict[str, Any]:
        """What it has done so far."""
        return {"received": self.received, "open": self.open, "computed": dict(self.computed)}


class Connection(asyncio.Protocol):
    """One connection: one request after the other."""

    transport: asyncio.Transport

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.buffer = b""
        self.answering = False
        self.target = b""
        self.closing: asyncio.TimerHandle | None = None
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.behaviour.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.behaviour.open -= 1
        if self.closing is not None:
            self.closing.cancel()

    def data_received(self, data: bytes) -> None:
        """Part of a request, or the whole."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        length = _LENGTH.search(head)
        size = end + 4 + (int(length.group(1)) if length else 0)
        if len(self.buffer) < size:
            return
        self.buffer = self.buffer[size:]
        if self.closing is not None:
            self.closing.cancel()
            self.closing = None
        self._take(head)

    def _take(self, head: bytes) -> None:
        behaviour = self.behaviour
        self.target = head.split(b" ", 2)[1]
        if behaviour.hang:
            return
        if self.target.endswith(b"/ping"):
            self._send(200 if behaviour.status == 200 else behaviour.status)
            return
        behaviour.received += 1
        if behaviour.status != 200:
            self._send(behaviour.status)
            return
        found = _ID.search(head)
        behaviour.computed[found.group(1).decode() if found else ""] += 1
        if self.target.endswith(b"/stream"):
            self._stream()
        elif behaviour.slots and behaviour.busy >= behaviour.slots:
            behaviour.queue.append(self)
        else:
            self._compute()

    def _compute(self) -> None:
        delay = 5.0 if self.target.endswith(b"/slow") else self.behaviour.delay
        self.behaviour.busy += 1
        if delay:
            self.loop.call_later(delay, self._computed)
        else:
            self._computed()

    def _computed(self) -> None:
        behaviour = self.behaviour
        behaviour.busy -= 1
        self._send(200)
        if behaviour.queue and (not behaviour.slots or behaviour.busy < behaviour.slots):
            behaviour.queue.popleft()._compute()

    def _send(self, status: int) -> None:
        if self.transport.is_closing():
            return
        body = BODIES.get(self.target, ANSWER)
        self.transport.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(body), b"" if body is LARGE else body)
        )
        if body is LARGE:
            self.transport.write(body)  # apart, so that many connections hold it once
        if self.behaviour.close_idle is not None:
            after = self.behaviour.random.uniform(0, self.behaviour.close_idle)
            self.closing = self.loop.call_later(after, self.transport.close)

    def _stream(self) -> None:
        self.transport.write(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        self._stream_more()

    def _stream_more(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"8\r\ndata: 1\n\r\n")
            self.loop.call_later(0.1, self._stream_more)


async def serve(port: int, host: str) -> None:
    """Serves until stdin ends."""
    loop = asyncio.get_running_loop()
    behaviour = Behaviour()
    server = await loop.create_server(lambda: Connection(behaviour), host, port, backlog=4096)
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while line := await reader.readline():
        command = json.loads(line)
        for name, value in command.get("set", {}).items():
            setattr(behaviour, name, value)
        print(json.dumps(behaviour.report() if "ask" in command else {}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
