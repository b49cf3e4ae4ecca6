"""What the measurements share: peers in alternating runs, and the CPU of whole process trees.

Rules:
1. Loopback only; everything started here is ended here, by pid.
2. A figure is CPU time of a peer's whole process tree (user and system) divided by the requests it answered.
3. Peers take turns, and the median of the paired ratios counts: the machine's speed changes, the ratio less.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
BODY_BYTES = 500
ANSWER_BYTES = 100
_LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local requests, turn = {{}}, 0
function init()
  for i = 1, {count} do
    local start = string.format('{{"row": %d, "pad": "', i * {step})
    wrk.body = start .. string.rep("x", {body} - #start - 2) .. '"}}'
    wrk.headers["x-customer-id"] = string.format("c-%07d", i * {step} % 9999991)
    local model = i * {step} % {models}
    requests[i] = wrk.format(nil, model == 0 and wrk.path or "/models/model-" .. (model - 1) .. "/invocations")
  end
end
function request()
  turn = turn % {count} + 1
  return requests[turn]
end
"""

DIFFERENT = 4999
"""So many requests differ from one another before the first comes again."""


def traffic(*, models: int = 1, different: int = DIFFERENT) -> str:
    """A script for wrk: POSTs of 500 bytes, `different` ones in turn, each with its own sticky key and body.

    They go to `models` models in no order. With `different=1` all requests are the same.
    """
    return _LUA.format(count=different, step=7919, body=BODY_BYTES, models=models)


LUA = traffic()

_PACKAGES = {"nginx": "nginx-light"}


class MissingProgramError(RuntimeError):
    """A program the measurement needs is not installed."""


def need(*programs: str) -> None:
    """Raises:
    MissingProgramError: one of them is not on PATH.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(_PACKAGES.get(program, program) for program in missing)
        raise MissingProgramError(f"not installed: {', '.join(missing)}; on Debian: apt-get install {packages}")


def free_port() -> int:
    """A port below the ephemeral range that nobody listens on now."""
    for candidate in range(20_000 + os.getpid() % 4000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    raise RuntimeError("no free port between 20000 and 32000")


def tree(pid: int) -> set[int]:
    """`pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = set(), [pid]
    while todo:
        current = todo.pop()
        found.add(current)
        todo += children.get(current, [])
    return found


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """CPU time that the living tree of `pid` has used so far."""
    total = 0
    for member in tree(pid):
        fields = _stat(member)
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pss_mb(pid: int) -> float:
    """Proportional set size of one process, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) / 1000 if found else 0.0


@dataclass(frozen=True)
class Run:
    """One peer under load once. Times in microseconds."""

    cpu_us: float
    rps: float
    p50_us: float
    p99_us: float
    errors: int


@dataclass(frozen=True)
class Peer:
    """A proxy to measure: its root process and the URL to load."""

    name: str
    pid: int
    url: str


_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def _quantile(output: str, name: str) -> float:
    found = re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s)\s*$", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk printed no {name} % quantile:\n{output}")
    return float(found.group(1)) * _UNITS[found.group(2)]


def load(peer: Peer, lua: Path, connections: int, seconds: int) -> Run:
    """Loads `peer` with wrk and says what it cost."""
    before = cpu_seconds(peer.pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(lua), peer.url]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    used = cpu_seconds(peer.pid) - before
    requests = int(re.findall(r"(\d+) requests in", output)[0])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = int(bad.group(1)) if bad else 0
    errors += sum(map(int, sockets.groups())) if sockets else 0
    if not requests:
        raise RuntimeError(f"{peer.name} answered nothing:\n{output}")
    return Run(used / requests * 1e6, requests / seconds, _quantile(output, "50"), _quantile(output, "99"), errors)


def wait_for_port(port: int, deadline: float = 20.0) -> None:
    """Waits until something listens on `port`.

    Raises:
        TimeoutError: nothing did within `deadline` seconds.
    """
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on 127.0.0.1:{port} after {deadline:.0f} s")


@contextmanager
def process(command: list[str], *, cwd: Path | None = None, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs while the block does."""
    with log.open("ab") as output:
        child = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


_NGINX = """worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; client_body_buffer_size 64k;
  client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
{body}
}}
"""


@contextmanager
def nginx(folder: Path, name: str, body: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """nginx with `body` inside its http block, once it listens on `port`."""
    config = folder / f"{name}.conf"
    config.write_text(_NGINX.format(folder=folder, name=name, body=body))
    command = ["nginx", "-c", str(config), "-p", str(folder), "-e", str(folder / f"{name}.log")]
    with process(command, log=folder / f"{name}.out") as child:
        wait_for_port(port)
        yield child


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """A model server that answers 100 bytes at once, as cheaply as there is: nginx itself. Yields its port."""
    port = free_port()
    answer = '{"predictions":[' + ",".join(["0.5"] * 20) + "]}"
    answer = answer.ljust(ANSWER_BYTES)[:ANSWER_BYTES]
    body = f"""  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }} }}"""
    with nginx(folder, "upstream", body, port):
        yield port


@contextmanager
def nginx_proxy(folder: Path, upstream_port: int) -> Iterator[Peer]:
    """nginx with `split_clients`: what many run today where this router would be."""
    port = free_port()
    body = f"""  split_clients "$http_x_customer_id" $version {{ 10% v4; * v3; }}
  upstream v3 {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000000; }}
  upstream v4 {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://$version; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id;
      add_header X-Model-Version $version; }} }}"""
    with nginx(folder, "proxy", body, port) as child:
        yield Peer("nginx", child.pid, f"http://127.0.0.1:{port}/models/bench/invocations")


def config(name: str, port: int, versions: int) -> str:
    """A model's configuration: the first version is stable, the others share 10 %; every feature on."""
    names = [f"v{number}" for number in range(3, 3 + versions)]
    shares = [10 // (versions - 1)] * (versions - 1)
    weights = dict(zip(names, [100 - sum(shares), *shares], strict=True))
    lines = [f"  {version}: {{upstreams: ['http://127.0.0.1:{port}']}}" for version in names]
    return "\n".join(
        [
            f"model: {name}",
            "versions:",
            *lines,
            f"stable: {names[0]}",
            f"regions: {{default: {{{', '.join(f'{version}: {weight}' for version, weight in weights.items())}}}}}",
            "stickiness: {header: x-customer-id}",
            "idempotent: true",
            "fallback: stable",
            "",
        ]
    )


@contextmanager
def router(folder: Path, upstream_port: int, *, models: int = 1, versions: int = 2, more: str = "") -> Iterator[Peer]:
    """The router itself, one worker, every feature on, `models` models of `versions` versions.

    `more` is further YAML of each.
    """
    configs = folder / "config" / "models"
    configs.mkdir(parents=True)
    names = ["bench", *(f"model-{number}" for number in range(models - 1))]
    for name in names:
        (configs / f"{name}.yaml").write_text(config(name, upstream_port, versions) + more)
    port, admin = free_port(), 0
    arguments = [
        *(sys.executable, "-m", "router.cli"),
        *("serve", "--config", str(folder / "config"), "--state", str(folder / "state")),
        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", "--workers", "1"),
    ]
    with process(arguments, log=folder / "router.log") as child:
        wait_for_port(port)
        for name in names:
            wait_for_answer(port, name)
        yield Peer("canary-router", child.pid, f"http://127.0.0.1:{port}/models/bench/invocations")


def wait_for_answer(port: int, model: str = "bench", deadline: float = 60.0) -> None:
    """Waits until the router predicts with `model`.

    Raises:
        TimeoutError: it did not within `deadline` seconds.
    """
    request = (
        b"POST /models/%b/invocations HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
        % model.encode()
    )
    end = time.monotonic() + deadline
    answer = b""
    while time.monotonic() < end:
        with suppress(TimeoutError), socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(request)
            answer = client.recv(4096)
        if answer.startswith(b"HTTP/1.1 200"):
            return
        time.sleep(0.1)
    raise TimeoutError(f"the router did not become ready: {answer[:200]!r}")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one measurement."""
    folder = Path(tempfile.mkdtemp(prefix="canary-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
