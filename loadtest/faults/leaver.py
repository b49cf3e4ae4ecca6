"""Clients that go away at random moments: `python -m loadtest.faults.leaver PORT COUNT PER_SECOND`.

Rules:
1. Each connects once and leaves for good: after connecting, amid the head, amid the body, while it waits, amid a large
   answer, in equal parts; half of them with a reset, half with an orderly end.
2. They come from many loopback addresses, so that the machine does not run out of ports.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from time import monotonic

import uvloop

RESET = struct.pack("ii", 1, 0)
WAIT = 0.03
BODY = b"x" * 500


def _request(path: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n%b" % (path, len(BODY), BODY)


PREDICT, PAGE = _request(b"/models/safe/invocations"), _request(b"/models/safe/page")
PARTS = (b"", PREDICT[:30], PREDICT[:-200], PREDICT, PAGE)


async def leave(number: int, port: int, chance: random.Random) -> None:
    """One client's short life."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.bind((f"127.0.0.{2 + number % 200}", 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        part = PARTS[number % len(PARTS)]
        if part:
            await loop.sock_sendall(sock, part)
        if part is PAGE:
            await asyncio.wait_for(loop.sock_recv(sock, 1024), 5)
        await asyncio.sleep(chance.uniform(0, WAIT))
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except (OSError, TimeoutError):
        print("a client could not even come", flush=True)
    finally:
        sock.close()


async def main(port: int, count: int, per_second: float) -> None:
    """All of them, on a schedule."""
    chance = random.Random(3)
    start = monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / per_second - monotonic()))
            group.create_task(leave(number, port, chance))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
