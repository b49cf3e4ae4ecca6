"""How long a whole snapshot of many models takes to be in force in a worker, and what requests notice of it.

Rules:
1. The worker is a real one; this program plays control, so that only the worker's part is measured.
2. Every snapshot differs from the one before in every model: new digests, other weights.
3. Runs with and without snapshots alternate; requests come at a steady pace from another process.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from loadtest.rig import scratch, upstream, wait_for_port
from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, Target
from router.core.split import lay_out
from router.core.wire import Applied, Message, SnapshotUpdate, decode, encode

EVERY = 0.5
"""Seconds from one snapshot to the next."""


def models(count: int, port: int, sequence: int) -> dict[str, ModelRoute]:
    """`count` models of four versions; `sequence` changes all of them."""
    endpoint = Endpoint("tcp", "127.0.0.1", port, authority=f"127.0.0.1:{port}")
    weight = 500 + sequence % 7 * 100

    def model(name: str) -> ModelRoute:
        canaries = [Target(f"v{n}", "ready", weight, weight, (endpoint,), digest=f"{name}-{n}") for n in (4, 5, 6)]
        rest = 10_000 - 3 * weight
        stable = Target("v3", "ready", rest, rest, (endpoint,), digest=f"{name}-3")
        slots = lay_out(0, [(index, weight) for index in (1, 2, 3)])
        region = RegionRoute("default", (stable, *canaries), 0, slots)
        return ModelRoute(name, f"{name}-{sequence}", {"default": region}, idempotent=True, fallback=True)

    return {name: model(name) for name in ["bench", *(f"model-{number}" for number in range(count - 1))]}


class Control:
    """Control's end of the link to one worker."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.listener.settimeout(30)
        self.link: socket.socket | None = None
        self.stream = b""

    def meet(self) -> None:
        """Waits until the worker says hello."""
        self.link, _ = self.listener.accept()
        self.link.settimeout(30)
        self.message()

    def close(self) -> None:
        """Ends the link."""
        if self.link is not None:
            self.link.close()
        self.listener.close()

    def message(self) -> Message:
        """The next message of the worker."""
        size = int.from_bytes(self._exactly(4), "big")
        return decode(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        if self.link is None:
            raise RuntimeError("no worker has said hello")
        while len(self.stream) < size:
            data = self.link.recv(1 << 20)
            if not data:
                raise RuntimeError("the worker closed its link")
            self.stream += data
        found, self.stream = self.stream[:size], self.stream[size:]
        return found

    def put_in_force(self, frame: bytes, sequence: int) -> float:
        """Seconds from sending a snapshot until the worker says that it is in force."""
        if self.link is None:
            raise RuntimeError("no worker has said hello")
        start = time.perf_counter()
        self.link.sendall(frame)
        while True:
            message = self.message()
            if isinstance(message, Applied) and message.sequence == sequence:
                return time.perf_counter() - start


@contextlib.contextmanager
def worker(folder: Path, control: Control, first: bytes) -> Iterator[int]:
    """A worker with its `first` snapshot in force; the port on which it listens."""
    (folder / "settings.json").write_text(json.dumps({"settings": {"grace": 2.0}, "bound": {}}))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    read_end, write_end = os.pipe()
    arguments = ["--run", str(folder), "--index", "0", "--lifeline", str(read_end)]
    arguments += ["--listen", f"default={listener.fileno()}"]
    with (folder / "worker.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "router.dataplane", *arguments],
            pass_fds=[listener.fileno(), read_end],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        control.meet()
        control.put_in_force(first, 1)
        wait_for_port(listener.getsockname()[1])
        yield listener.getsockname()[1]
    finally:
        child.terminate()
        child.wait(30)
        os.close(read_end)
        os.close(write_end)
        listener.close()


def paced(port: int, rate: int, seconds: float) -> subprocess.Popen[str]:
    """Requests at a steady pace, from another process."""
    command = [sys.executable, "-m", "loadtest.compare.pace", str(port), str(rate), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def outcome(client: subprocess.Popen[str]) -> dict[str, float]:
    """What the paced requests found."""
    output, _ = client.communicate(timeout=120)
    found: dict[str, float] = json.loads(output)
    return found


def measure(count: int, rounds: int, seconds: float, rate: int) -> dict[str, object]:
    """Seconds until in force, and quantiles in milliseconds with and without snapshots meanwhile."""
    quiet: list[dict[str, float]] = []
    busy: list[dict[str, float]] = []
    applied: list[float] = []
    with scratch() as folder, upstream(folder) as server:
        control = Control(folder / "workers.sock")
        # Made beforehand: control's part must not take the processor from what is measured.
        pushes = int(seconds / EVERY) - 1
        frames = [encode(SnapshotUpdate(n, None, models(count, server, n))) for n in range(1, rounds * pushes + 2)]
        later = enumerate(frames[1:], 2)
        with contextlib.closing(control), worker(folder, control, frames[0]) as port:
            for _ in range(rounds):
                quiet.append(outcome(paced(port, rate, seconds)))
                client = paced(port, rate, seconds)
                for sequence, frame in islice(later, pushes):
                    time.sleep(EVERY)
                    applied.append(control.put_in_force(frame, sequence))
                busy.append(outcome(client))
    return {
        "models": count,
        "median_ms": statistics.median(applied) * 1e3,
        "most_ms": max(applied) * 1e3,
        "frame_bytes": len(frames[0]),
        "p99.9_quiet_ms": statistics.median(run["p99.9"] for run in quiet),
        "p99.9_busy_ms": statistics.median(run["p99.9"] for run in busy),
        "p99.9_delay_ms": statistics.median(
            one["p99.9"] - other["p99.9"] for one, other in zip(busy, quiet, strict=True)
        ),
    }
