"""Constant load on a prediction endpoint, from a thread of its own, and what every request got.

Rules:
1. Each connection is kept alive and carries one request after the other, like the clients of a busy service.
2. A connection that breaks is a failed request; the next one opens a new connection.
3. `stop` returns every result; nothing is dropped or retried in silence.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Result:
    """One request: when it was sent and answered (monotonic seconds), `status` 0 where the connection broke."""

    sent: float
    done: float
    status: int
    version: str
    key: str


class Traffic:
    """A context manager: load runs inside it. `rate` is requests per second over all connections."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        connections: int = 8,
        rate: float = 200.0,
        body: bytes = b"{}",
        header: str = "x-key",
        key: Callable[[int], str] = lambda number: f"key-{number}",
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._path = f"/models/{model}/invocations"
        self._connections = connections
        self._pause = connections / rate
        self._body = body
        self._header = header
        self._key = key
        self._number = 0
        self._stopping = threading.Event()
        self.results: list[Result] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> list[Result]:
        """Ends the load; every request under way is waited for."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the load did not end within 60 s"
        return self.results

    @property
    def failed(self) -> list[Result]:
        """Results that are no 200."""
        return [result for result in self.results if result.status != 200]

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(index) for index in range(self._connections)))

    async def _client(self, index: int) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        due = time.monotonic() + self._pause * index / self._connections
        while not self._stopping.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._pause, time.monotonic())
            self._number += 1
            key = self._key(self._number)
            sent = time.monotonic()
            try:
                if streams is None:
                    streams = await asyncio.open_connection(*self._address)
                status, version, stays = await asyncio.wait_for(self._request(*streams, key), 30)
            except (OSError, EOFError, ValueError, TimeoutError):
                status, version, stays = 0, "", False
            self.results.append(Result(sent, time.monotonic(), status, version, key))
            if not stays and streams is not None:
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str
    ) -> tuple[int, str, bool]:
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: test\r\n{self._header}: {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._body)}\r\n\r\n"
        )
        writer.write(head.encode() + self._body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        await reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), headers.get("x-model-version", ""), headers.get("connection") != "close"
