"""Requests at a steady pace from a process of its own: `python -m loadtest.compare.pace PORT RATE SECONDS`.

Rules:
1. Each latency counts from the moment the request was due, so that a stall is seen by all that it delays.
2. Prints one JSON object: how many, and latencies in milliseconds by quantile.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import time

REQUEST = (
    b"POST /models/bench/invocations HTTP/1.1\r\nhost: bench\r\nx-customer-id: c-1234567\r\n"
    b"content-type: application/json\r\ncontent-length: 500\r\n\r\n" + b"x" * 500
)
QUANTILES = (0.5, 0.99, 0.999, 1.0)


def exchange(client: socket.socket) -> None:
    """One request and its whole answer, which fits into few reads."""
    client.sendall(REQUEST)
    answer = client.recv(65536)
    while not answer.endswith(b"\r\n\r\n") and b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"not an answer: {answer[:200]!r}")


def latencies(port: int, rate: float, seconds: float) -> list[float]:
    """Sorted latencies in seconds, from when each request was due."""
    found = []
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange(client)
        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = start + number / rate
            while (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            exchange(client)
            found.append(time.perf_counter() - due)
    return sorted(found)


def main() -> None:
    """Prints what it found."""
    gc.disable()
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    found = latencies(port, rate, seconds)
    quantiles = {f"p{share * 100:g}": found[min(len(found) - 1, int(len(found) * share))] * 1e3 for share in QUANTILES}
    print(json.dumps({"requests": len(found), **quantiles}))


if __name__ == "__main__":
    main()
