"""What the router takes: memory for models, for idle connections, and after many that came and went.

Rules:
1. Memory is the proportional set size of one worker, taken once it is quiet; the kernel's buffers are not in it.
2. Connections are opened from several loopback addresses, so that no range of client ports runs out.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from json import loads
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.compare import large as bodies
from loadtest.compare.pace import exchange
from loadtest.rig import (
    Peer,
    Run,
    free_port,
    load,
    process,
    pss_mb,
    router,
    scratch,
    traffic,
    tree,
    upstream,
    wait_for_port,
)

RESET = struct.pack("ii", 1, 0)
SOURCES = 8


def worker_of(peer: Peer) -> int:
    """The pid of the router's first worker."""
    for pid in sorted(tree(peer.pid)):
        if b"router.dataplane" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise RuntimeError("the router has no worker")


@contextlib.contextmanager
def ready_router(models: int, versions: int = 2) -> Iterator[tuple[Peer, Path]]:
    """A router whose models are all admitted and were all used, and the load script for it."""
    with (
        scratch() as folder,
        upstream(folder) as server,
        router(folder, server, models=models, versions=versions) as peer,
    ):
        wait_until_ready(f"{admin_of(folder)}/readyz")
        lua = folder / "post.lua"
        lua.write_text(traffic(models=models))
        load(peer, lua, 32, 2)
        yield peer, lua


def admin_of(folder: Path) -> str:
    """The URL of the admin port of the router in `folder`."""
    return str(loads((folder / "state" / "serving.json").read_text())["admin"])


def wait_until_ready(url: str, deadline: float = 120.0) -> None:
    """Waits for a 200.

    Raises:
        TimeoutError: there was none within `deadline` seconds.
    """
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{url} did not become ready within {deadline:.0f} s")


def settled_pss(pid: int) -> float:
    """MB of a worker once two looks in a row agree to 0.1 MB, or after 10 s."""
    before, end = pss_mb(pid), time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.5)
        now = pss_mb(pid)
        if abs(now - before) < 0.1:
            return now
        before = now
    return before


def connect(port: int, number: int) -> socket.socket:
    """A connection from the `number`-th source address."""
    sock = socket.socket()
    sock.bind((f"127.0.0.{2 + number % SOURCES}", 0))
    sock.connect(("127.0.0.1", port))
    return sock


def port_of(peer: Peer) -> int:
    """The port of a router."""
    return urlsplit(peer.url).port or 80


def memory(models: int) -> float:
    """MB of a worker with so many models of four versions, after load on all of them."""
    with ready_router(models, 4) as (peer, _):
        return settled_pss(worker_of(peer))


def scrapes(models: int, times: int) -> list[float]:
    """Seconds that `/metrics` takes, again and again, with so many models of two versions that were all used."""
    found = []
    with ready_router(models) as (_, lua):
        for _ in range(times):
            start = time.perf_counter()
            with urllib.request.urlopen(f"{admin_of(lua.parent)}/metrics", timeout=30) as answer:
                answer.read()
            found.append(time.perf_counter() - start)
    return found


@dataclass(frozen=True)
class Idle:
    """`bytes_each` per idle connection; what the others' requests cost and took, without and with them."""

    bytes_each: float
    without: list[Run]
    having: list[Run]


def idle(many: int, rounds: int, seconds: int) -> Idle:
    """Opens `many` connections that made one request each, and loads the router beside them."""
    allow(2 * many + 1000)
    with ready_router(10) as (peer, lua), contextlib.ExitStack() as held:
        port, pid = port_of(peer), worker_of(peer)
        without = [load(peer, lua, 32, seconds) for _ in range(rounds)]
        first = many // 10
        for number in range(first):
            exchange(held.enter_context(connect(port, number)))
        before = settled_pss(pid)
        for number in range(first, many):
            exchange(held.enter_context(connect(port, number)))
        after = settled_pss(pid)
        having = [load(peer, lua, 32, seconds) for _ in range(rounds)]
    return Idle((after - before) * 1e6 / (many - first), without, having)


def allow(descriptors: int) -> None:
    """Raises this process's limit of open files.

    Raises:
        RuntimeError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < descriptors and hard != resource.RLIM_INFINITY and hard < descriptors // 2:
        raise RuntimeError(f"{descriptors // 2} open files are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def churn(many: int, steps: int) -> list[float]:
    """MB of a worker at the start and after each of `steps` parts of `many` connections that came and went."""
    with ready_router(10) as (peer, _):
        port, pid = port_of(peer), worker_of(peer)
        found = [settled_pss(pid)]
        for step in range(steps):
            for number in range(many // steps):
                come_and_go(port, step + number)
            found.append(settled_pss(pid))
        return found


def come_and_go(port: int, number: int) -> None:
    """One connection: with a request and an orderly end, with half of one, with nothing, or broken."""
    with connect(port, number) as sock:
        kind = number % 4
        if kind < 2:
            exchange(sock)
        elif kind == 2:
            sock.sendall(b"POST /models/bench/invocations HTTP/1.1\r\nhost: bench\r\ncontent-le")
        if kind:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def large(many: int, size: int) -> dict[str, float]:
    """MB that a worker takes more while `many` bodies of `size` bytes pass at once, each way."""
    with scratch() as folder, contextlib.ExitStack() as stack:
        server = free_port()
        command = [sys.executable, "-m", "loadtest.compare.large", str(server)]
        stack.enter_context(process(command, log=folder / "large.log"))
        wait_for_port(server)
        peer = stack.enter_context(router(folder, server, more=bodies.CONFIG))
        bodies.growth(worker_of(peer), port_of(peer), many, 1 << 20)
        return bodies.growth(worker_of(peer), port_of(peer), many, size)


def cost_of_idle(found: Idle) -> tuple[float, float]:
    """Ratios with to without idle connections: CPU per request, p99."""
    cpu = statistics.median(run.cpu_us for run in found.having) / statistics.median(run.cpu_us for run in found.without)
    p99 = statistics.median(run.p99_us for run in found.having) / statistics.median(run.p99_us for run in found.without)
    return cpu, p99
