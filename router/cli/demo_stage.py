"""The processes of the demo: started under guard, and ended in every case.

Rules:
1. Nothing outlives the demo, however it ends: every process hangs on one pipe (see `guarded`).
2. One demo per directory: the lock is held by the demo and by its guards, so that a next one starts only when
   everything of the last is gone, even if that was killed.
3. What a process prints goes to a log file; when it fails, the end of that file is part of the message.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import httpx

from router.clock import SystemClock
from router.errors import OperatorError, UpstreamError

_LAST_ONE_ENDS = 20.0
_ALL_END = 45.0
_POLL = 0.1
_CLOCK = SystemClock()
_TOLD_LINES = 15
# Above begin the ports that the kernel hands out for outgoing connections.
_FREE_PORTS = range(20_000, 32_768)


class Stage:
    """The demo's processes. Use `open_stage`."""

    def __init__(self, root: Path, lock: int) -> None:
        self.logs = root / "logs"
        self.logs.mkdir(exist_ok=True)
        self._lock = lock
        self._lifeline, self._ours = os.pipe()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts `command` under guard; it is known as `name` from then on."""
        guard = [sys.executable, "-m", "router.cli.guarded", str(self._lifeline), *command]
        with self._log_of(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                guard,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lifeline, self._lock],
            )

    def run(self, name: str, command: Sequence[str], *, timeout: float) -> None:
        """Runs `command` under guard to its end, in at most `timeout` seconds.

        Raises:
            UpstreamError: it failed, or took longer.
        """
        self.start(name, command)
        try:
            code = self._running[name].wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise UpstreamError(f"{name} took longer than {timeout:.0f} s", hint=self._told(name)) from late
        if code:
            raise UpstreamError(f"{name} failed with exit code {code}", hint=self._told(name))
        del self._running[name]

    def wait_for(self, name: str, ready: Callable[[], bool], *, timeout: float) -> None:
        """Returns once `ready` says so of process `name`.

        Raises:
            UpstreamError: the process ended before, or `timeout` seconds passed.
        """
        deadline = _CLOCK.monotonic() + timeout
        while not ready():
            self.check()
            if _CLOCK.monotonic() > deadline:
                raise UpstreamError(f"{name} was not ready within {timeout:.0f} s", hint=self._told(name))
            time.sleep(_POLL)

    def check(self) -> None:
        """Raises UpstreamError where one of the processes has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise UpstreamError(f"{name} ended with exit code {process.returncode}", hint=self._told(name))

    def close(self) -> None:
        """Ends all processes, and returns when they are gone."""
        os.close(self._ours)
        for process in self._running.values():
            process.wait(_ALL_END)
        os.close(self._lifeline)

    def _log_of(self, name: str) -> Path:
        return self.logs / f"{name.replace(' ', '-')}.log"

    def _told(self, name: str) -> str:
        path = self._log_of(name)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TOLD_LINES:]
        return "\n  ".join([f"the end of {path}:", *lines])


@contextmanager
def open_stage(root: Path) -> Iterator[Stage]:
    """The stage in directory `root`, which nobody else may use meanwhile.

    Raises:
        OperatorError: the directory cannot be written, or another demo uses it.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "lock").open("w")
    except OSError as fault:
        raise OperatorError(f"{root}: {fault.strerror}", hint="run the demo in a directory you may write to") from fault
    with lock:
        _take(lock.fileno(), root)
        stage = Stage(root, lock.fileno())
        try:
            yield stage
        finally:
            stage.close()


def free_ports(wanted: Sequence[int]) -> list[int]:
    """TCP ports of the loopback interface that nobody listens on: each the one `wanted`, or another.

    Raises:
        OperatorError: there are not that many.
    """
    found: list[int] = []
    for first in wanted:
        port = next((port for port in chain((first,), _FREE_PORTS) if port not in found and _is_free(port)), None)
        if port is None:
            raise OperatorError("no free TCP port was found", hint="end what listens on this machine's ports")
        found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _take(lock: int, root: Path) -> None:
    deadline = _CLOCK.monotonic() + _LAST_ONE_ENDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            if _CLOCK.monotonic() > deadline:
                raise OperatorError(
                    f"another demo runs in {root}", hint="end it, or run this one in another directory"
                ) from taken
            time.sleep(_POLL)
        else:
            return
