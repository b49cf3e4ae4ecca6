"""Requests at a steady pace from a process of its own: `python -m loadtest.compare.pace PORT RATE SECONDS`.

Rules:
1. Each latency counts from the moment the request was due, so that a stall is seen by all that it delays.
2. Prints one JSON object: how many, and latencies in milliseconds by quantile.
"""

from __future__ import annotations

import contextlib
import gc
import json
import selectors
import socket
import sys
import time

REQUEST = (
    b"POST /models/bench/invocations HTTP/1.1\r\nhost: bench\r\nx-customer-id: c-1234567\r\n"
    b"content-type: application/json\r\ncontent-length: 500\r\n\r\n" + b"x" * 500
)
CONNECTIONS = 64
QUANTILES = (0.5, 0.99, 0.999, 1.0)


def exchange(client: socket.socket) -> None:
    """One request and its whole answer, which fits into few reads."""
    client.sendall(REQUEST)
    answer = client.recv(65536)
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    _check(answer)


def latencies(port: int, rate: float, seconds: float) -> list[float]:
    """Sorted latencies in seconds, from when each request was due; each goes out on time, whatever the others wait."""
    found: list[float] = []
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        free = [stack.enter_context(_connected(port)) for _ in range(CONNECTIONS)]
        for client in free:
            selector.register(client, selectors.EVENT_READ)
        under_way: dict[socket.socket, float] = {}
        start = time.perf_counter()
        sent, total = 0, int(rate * seconds)
        while len(found) < total:
            due = start + sent / rate
            if sent < total and free and time.perf_counter() >= due:
                client = free.pop()
                client.sendall(REQUEST)
                under_way[client] = due
                sent += 1
            wait = max(0.0, due - time.perf_counter()) if sent < total and free else 5.0
            for key, _ in selector.select(wait):
                answered = key.fileobj
                if not isinstance(answered, socket.socket):
                    raise TypeError("only sockets were registered")
                _check(answered.recv(65536))
                found.append(time.perf_counter() - under_way.pop(answered))
                free.append(answered)
    return sorted(found)


def _connected(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    exchange(client)
    return client


def _check(answer: bytes) -> None:
    """A short answer comes in one piece."""
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"not an answer: {answer[:200]!r}")


def main() -> None:
    """Prints what it found."""
    gc.disable()
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    found = latencies(port, rate, seconds)
    quantiles = {f"p{share * 100:g}": found[min(len(found) - 1, int(len(found) * share))] * 1e3 for share in QUANTILES}
    print(json.dumps({"requests": len(found), **quantiles}))


if __name__ == "__main__":
    main()
