"""Large bodies: what a worker takes while ten of a gibibyte each go up or down at once.

`python -m loadtest.compare.large PORT` is the model server for it: it takes whatever comes, and answers a GET with as
many bytes as its query says.

Rules:
1. Every byte is counted at its destination: a body that arrives short is an error, not a low figure.
2. Memory is the worker's peak (`VmHWM`, set back before) over what it had, so that no peak falls between two looks.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

PIECE = bytes(1 << 18)
CONFIG = "max_body: 1024GiB\ntimeout: 1h\nattempt_timeout: 1h\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WANTED = re.compile(rb"^GET \S*[?](\d+) ")


class Server(asyncio.Protocol):
    """One connection: reads a request whole, however long, then answers."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.head = b""
        self.left = -1
        self.owed = 0
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Part of a request."""
        if self.left >= 0:
            self._count(len(data))
            return
        self.head += data
        end = self.head.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        found = _LENGTH.search(self.head[:end])
        self.left = int(found.group(1)) if found else 0
        self._count(len(self.head) - end)

    def _count(self, size: int) -> None:
        self.left -= size
        if self.left > 0:
            return
        wanted = _WANTED.search(self.head)
        self.owed = int(wanted.group(1)) if wanted else 2
        self.head, self.left = b"", -1
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.owed)
        self.paused = False
        self._pay()

    def pause_writing(self) -> None:
        """The router takes it more slowly."""
        self.paused = True

    def resume_writing(self) -> None:
        """The router takes more."""
        self.paused = False
        self._pay()

    def _pay(self) -> None:
        while self.owed and not self.paused and not self.transport.is_closing():
            piece = PIECE[: self.owed]
            self.owed -= len(piece)
            self.transport.write(piece)


async def serve(port: int) -> None:
    """Serves on loopback for ever."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port)
    await server.serve_forever()


def upload(port: int, size: int) -> None:
    """POSTs `size` bytes.

    Raises:
        RuntimeError: the answer is no 200.
    """
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"POST /models/bench/invocations HTTP/1.1\r\nhost: b\r\ncontent-length: %d\r\n\r\n" % size)
        left = size
        while left:
            piece = PIECE[:left]
            client.sendall(piece)
            left -= len(piece)
        answer = client.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"an upload was answered {answer[:200]!r}")


def download(port: int, size: int) -> None:
    """GETs `size` bytes.

    Raises:
        RuntimeError: as many did not come.
    """
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"GET /models/bench/bytes?%d HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n" % size)
        buffer, total, head = bytearray(1 << 18), 0, b""
        while came := client.recv_into(buffer):
            if b"\r\n\r\n" not in head:
                head += buffer[:came]
                came = len(head.partition(b"\r\n\r\n")[2])
            total += came
        if total != size:
            raise RuntimeError(f"{total} of {size} bytes came: {head[:200]!r}")


def growth(pid: int, port: int, many: int, size: int) -> dict[str, float]:
    """MB by which a worker's memory grew at most while `many` bodies of `size` bytes went up, and down."""
    found = {}
    for way in (upload, download):
        before = _status(pid, "VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        with ThreadPoolExecutor(many) as pool:
            list(pool.map(partial(way, port), [size] * many))
        found[way.__name__] = _status(pid, "VmHWM") - before
    return found


def _status(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:")) / 1000


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
