"""A real router, its model servers and a load, each in processes of their own.

Rules:
1. Loopback only; what is started here is ended here, by pid, whatever happened.
2. Two endpoints per version: `v3` is stable, `v4` the canary.
3. What a worker holds is counted by itself (`probe/sitecustomize.py`); descriptors are read from /proc.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from loadtest.faults.plan import Plan, Record
from loadtest.rig import free_port, scratch, tree

ROOT = Path(__file__).parents[2]
PROBE = Path(__file__).parent / "probe"
HOSTS = "hosts.json"
"""Which names there are, with their addresses, beside real ones: read anew each time the router resolves a name."""

MODEL = """model: {name}
versions:
  v3: {{upstreams: [{v3}]}}
  v4: {{upstreams: [{v4}]}}
stable: v3
regions: {{default: {{v3: {stable}, v4: {canary}}}}}
stickiness: {{header: x-customer-id}}
timeout: {timeout}
attempt_timeout: {attempt_timeout}
idempotent: {idempotent}
{more}
"""


def model(name: str, **changes: Any) -> dict[str, Any]:
    """The parts of a model's config; `changes` to the usual ones."""
    usual = {"canary": 10, "timeout": "2s", "attempt_timeout": "1s", "idempotent": "true", "more": ""}
    return {"name": name, **usual, **changes}


class Upstream:
    """One model server (`upstream.py`)."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.host = host
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Starts it, on the port it had before if it ran before."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.faults.upstream", str(self.port), self.host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.port = int(json.loads(_pipe(self._process.stdout).readline())["port"])

    def set(self, **behaviour: object) -> None:
        """Changes its behaviour; in force on return."""
        self._say({"set": behaviour})

    def report(self) -> dict[str, Any]:
        """What it has done."""
        return self._say({"ask": True})

    def kill(self) -> None:
        """SIGKILL."""
        process = self._running()
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()

    def _say(self, command: Mapping[str, object]) -> dict[str, Any]:
        process = self._running()
        _pipe(process.stdin).write(json.dumps(command) + "\n")
        _pipe(process.stdin).flush()
        answer: dict[str, Any] = json.loads(_pipe(process.stdout).readline())
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the model server was not started")
        return self._process


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process was started without this pipe")
    return pipe


class Load:
    """A generator that runs (`generator.py`); `records` waits for its end."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self._out = out
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.faults.generator", str(out)], stdin=subprocess.PIPE, cwd=ROOT
        )
        if self._process.stdin is None:
            raise RuntimeError("the process was started without this pipe")
        self._process.stdin.write(msgspec.json.encode(plan))
        self._process.stdin.close()

    def stop(self) -> None:
        """No further requests; what is under way is still awaited."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without a record."""
        self._process.kill()
        self._process.wait(10)

    def records(self, within: float = 120.0) -> list[Record]:
        """Everything it sent, in the order of scheduling.

        Raises:
            RuntimeError: the generator failed.
        """
        if self._process.wait(within):
            raise RuntimeError(f"the generator ended with {self._process.returncode}")
        found = msgspec.json.decode(self._out.read_bytes(), type=list[Record])
        return sorted(found, key=lambda record: record.scheduled)


@dataclass
class Stage:
    """What a scenario plays on. `servers` by version; `port` of the data, `admin` URL of the admin port."""

    folder: Path
    servers: dict[str, list[Upstream]]
    router: subprocess.Popen[bytes]
    port: int
    admin: str
    loads: list[Load] = field(default_factory=list)

    @property
    def all_servers(self) -> list[Upstream]:
        """Every model server."""
        return [server for servers in self.servers.values() for server in servers]

    def load(self, rate: float, seconds: float, **plan: Any) -> Load:
        """Starts a generator."""
        out = self.folder / f"load-{len(self.loads)}.json"
        load = Load(Plan(port=self.port, rate=rate, seconds=seconds, **plan), out)
        self.loads.append(load)
        return load

    def workers(self) -> list[int]:
        """The pids of the router's data-plane processes."""
        return [pid for pid in tree(self.router.pid) if b"router.dataplane" in _command(pid)]

    def descriptors(self) -> int:
        """How many descriptors the workers have open together."""
        return sum(1 for pid in self.workers() for _ in Path(f"/proc/{pid}/fd").iterdir())

    def held(self) -> dict[str, int]:
        """What the workers hold together: tasks, connections, exchanges; descriptors."""
        total: dict[str, int] = {"descriptors": self.descriptors()}
        for pid in self.workers():
            answer = self.folder / f"{pid}.json"
            answer.unlink(missing_ok=True)
            os.kill(pid, signal.SIGUSR2)
            wait_for(answer.exists, 10, f"worker {pid} counted what it holds")
            for name, count in json.loads(answer.read_text()).items():
                total[name] = total.get(name, 0) + count
        return total

    def get(self, path: str, timeout: float = 5.0) -> str:
        """A page of the admin port."""
        with urllib.request.urlopen(self.admin + path, timeout=timeout) as response:
            text: str = response.read().decode()
            return text

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series of a metric that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = re.findall(rf"^{name}(?:_total)?(\{{[^}}]*\}})? (\S+)", self.get("/metrics"), re.MULTILINE)
        return sum(float(value) for shown, value in lines if all(label in shown for label in wanted))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], bool], within: float, what: str) -> float:
    """Waits until `condition` holds; returns the seconds it took.

    Raises:
        TimeoutError: it did not within so many seconds.
    """
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > within:
            raise TimeoutError(f"not within {within:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - start


def pause_until(moment: float) -> None:
    """Lets the load run until `moment` of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))


@contextlib.contextmanager
def stage(
    *models: dict[str, Any],
    workers: int = 1,
    arguments: tuple[str, ...] = (),
    hosts: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """A router with `models`, ready, and its model servers; `hosts` are names that it can resolve."""
    with scratch() as folder, contextlib.ExitStack() as stack:
        servers: dict[str, list[Upstream]] = {"v3": [], "v4": []}
        for version in ("v3", "v3", "v4", "v4"):
            server = Upstream()
            stack.callback(server.kill)
            servers[version].append(server)
        repository = folder / "config"
        _write(repository, servers, models)
        (folder / HOSTS).write_text(json.dumps(hosts or {}))
        with _router(folder, repository, workers, arguments) as found:
            try:
                yield (on := Stage(folder, servers, *found))
            finally:
                for load in on.loads:
                    load.kill()


def _write(repository: Path, servers: Mapping[str, list[Upstream]], models: tuple[dict[str, Any], ...]) -> None:
    (repository / "models").mkdir(parents=True)
    urls = {
        version: ", ".join(f'"http://127.0.0.1:{server.port}"' for server in of_version)
        for version, of_version in servers.items()
    }
    for each in models:
        text = MODEL.format(**{**urls, **each}, stable=100 - each["canary"])
        (repository / "models" / f"{each['name']}.yaml").write_text(text)


@contextlib.contextmanager
def _router(
    folder: Path, repository: Path, workers: int, arguments: tuple[str, ...]
) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    command = [
        *(sys.executable, "-m", "router.cli", "serve", "--config", str(repository), "--state", str(folder / "state")),
        *("--listen", f"127.0.0.1:{free_port()}", "--admin", "127.0.0.1:0", "--workers", str(workers), *arguments),
    ]
    environment = {**os.environ, "PYTHONPATH": str(PROBE), "FAULTS_PROBE": str(folder)}
    with (folder / "router.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment)
    try:
        serving = folder / "state" / "serving.json"
        wait_for(lambda: serving.exists() or process.poll() is not None, 30, "the router listens")
        if process.poll() is not None:
            raise RuntimeError(f"the router ended:\n{(folder / 'router.log').read_text()}")
        shown = json.loads(serving.read_text())
        wait_for(lambda: _ready(shown["admin"]), 60, "the router is ready")
        yield process, int(next(iter(shown["listen"].values())).rsplit(":", 1)[1]), shown["admin"]
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"{admin}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
