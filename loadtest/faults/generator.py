"""Sends requests on a schedule, whatever becomes of the answers: `python -m loadtest.faults.generator OUT < PLAN`.

Rules:
1. Arrivals are fixed before the first request is sent (open loop): a slow router gets no fewer of them.
2. A request is never sent twice, and one without a whole answer is recorded as such.
3. A connection that dies while idle is replaced; one that dies under a request fails that request.
4. SIGTERM ends the sending; what is under way is still awaited, and recorded.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import cast

import msgspec
import uvloop

from loadtest.faults.plan import Plan, Record

EVERY = 0.001
LOOK_EVERY = 0.05
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_VERSION = re.compile(rb"\r\nx-model-version: *([^\r]+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Client(asyncio.Protocol):
    """One connection, with at most one request under way."""

    transport: asyncio.Transport | None = None
    local = 0
    number = -1
    path = 0
    scheduled = sent = first = 0.0
    size = -1
    status = 0
    version = ""
    last = False

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: sends what it was opened for."""
        self.transport = cast("asyncio.Transport", transport)
        self.local = transport.get_extra_info("sockname")[1]
        self._write()

    def send(self, number: int, path: int, scheduled: float) -> None:
        """Sends one request, now or once connected."""
        self.number, self.path, self.scheduled = number, path, scheduled
        self.first, self.size, self.status, self.version, self.buffer = 0.0, -1, 0, "", b""
        self.generator.waiting.add(self)
        if self.transport is not None:
            self._write()

    def _write(self) -> None:
        self.sent = monotonic()
        if self.transport is not None:
            self.transport.write(self.generator.heads[self.path] % self.number + self.generator.body)

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        if not self.first:
            self.first = monotonic()
        self.buffer += data
        if self.size < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(self.buffer[: end + 2], end + 4)
        if len(self.buffer) >= self.size:
            self.finish("")

    def _read_head(self, head: bytes, size: int) -> None:
        self.status = int(head[9:12])
        length, version = _LENGTH.search(head), _VERSION.search(head)
        self.size = size + (int(length.group(1)) if length else 0)
        self.version = version.group(1).decode() if version else ""
        self.last = _CLOSE.search(head) is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waited on it has no answer."""
        if self.number >= 0:
            self.last = True
            self.finish(f"broken: {exc or 'closed'}")
        self.generator.drop(self)

    def finish(self, error: str) -> None:
        """Records the request under way."""
        status = 0 if error else self.status
        self.generator.records.append(
            Record(
                *(self.number, self.path, self.scheduled, self.sent, self.first, monotonic()),
                *(status, self.version, self.local, error),
            )
        )
        self.number = -1
        self.generator.waiting.discard(self)
        self.generator.released(self)


class Generator:
    """All connections of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = asyncio.get_running_loop()
        self.random = random.Random(plan.seed)
        self.records: list[Record] = []
        self.idle: list[Client] = []
        self.waiting: set[Client] = set()
        self.count = 0
        self.sending = True
        self.body = b"x" * plan.body
        prefix = f"r{plan.port}-{plan.seed}-{int(monotonic() * 1000)}-"
        self.heads = [
            f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nx-request-id: {prefix}%d\r\n"
            f"content-length: {plan.body}\r\n\r\n".encode()
            for path in plan.paths
        ]
        self._connecting: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._looked = 0.0

    def fire(self, scheduled: float) -> None:
        """Sends the next request."""
        number = self._numbers
        self._numbers += 1
        path = number % len(self.heads)
        fresh = self.plan.fresh and self.random.random() < self.plan.fresh
        if self.idle and not fresh:
            self.idle.pop().send(number, path, scheduled)
            return
        client = Client(self)
        client.last = bool(fresh)
        if self.count >= self.plan.connections:
            self.records.append(
                Record(number, path, scheduled, 0.0, 0.0, monotonic(), 0, "", 0, "generator: no connection left")
            )
            return
        self.count += 1
        client.send(number, path, scheduled)
        task = self.loop.create_task(self._connect(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, client: Client) -> None:
        try:
            await self.loop.create_connection(lambda: client, "127.0.0.1", self.plan.port)
        except OSError as error:
            client.last = True
            client.finish(f"connect: {error.strerror or error}")
            self.drop(client)

    def released(self, client: Client) -> None:
        """A connection's request has ended."""
        if client.last:
            if client.transport is not None:
                client.transport.close()
        elif self.plan.closed and self.sending:
            number = self._numbers
            self._numbers += 1
            client.send(number, number % len(self.heads), monotonic())
        else:
            self.idle.append(client)

    def drop(self, client: Client) -> None:
        """A connection is gone."""
        self.count -= 1
        if client in self.idle:
            self.idle.remove(client)

    def _arrivals(self, start: float) -> Iterator[float]:
        due, end = start, start + self.plan.seconds
        while due < end:
            yield due
            due += self.random.expovariate(self.plan.rate)

    async def run(self) -> None:
        """Sends everything, and waits for the rest of the answers."""
        start = monotonic()
        if self.plan.closed:
            for _ in range(self.plan.closed):
                self.fire(start)
            await self._until(start + self.plan.seconds)
        else:
            for due in self._arrivals(start):
                await self._until(due)
                if not self.sending:
                    break
                self.fire(due)
        self.sending = False
        await self._drain()

    async def _until(self, due: float) -> None:
        while self.sending and monotonic() < due:
            self._give_up()
            await asyncio.sleep(EVERY)

    def _give_up(self) -> None:
        now = monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        limit = now - self.plan.patience
        for client in [client for client in self.waiting if client.scheduled < limit]:
            client.last = True
            client.finish("no answer in time")

    async def _drain(self) -> None:
        while self.waiting:
            self._give_up()
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """No further request is sent."""
        self.sending = False


async def main() -> None:
    """Carries out the plan on stdin."""
    generator = Generator(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, generator.stop)
    await generator.run()
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(generator.records))  # noqa: ASYNC240 - nothing else runs any more


if __name__ == "__main__":
    uvloop.run(main())
