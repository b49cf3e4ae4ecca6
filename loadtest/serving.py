"""How our pyfunc server does beside `mlflow models serve --workers 1`: the same model, the same requests, in turns.

Rules:
1. One process each, one row per request unless said; all run at once and take turns under load, and the median of the
   rounds' ratios counts.
2. Every answer is checked to be 200; the first ones are compared between the servers.
3. The client is one process with one connection per request that is under way (a closed loop).
4. With `--mlserver PYTHON`, an interpreter of another environment, MLServer takes its turn as well, with adaptive
   batching; there is no bar for it.

    python -m loadtest.serving [--rounds 5] [--seconds 3] [--mlserver PYTHON] [row …]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from loadtest.rig import free_port, scratch, wait_for_port
from router.config.serving import Launch, Serving
from router.serving import spec

START_SECONDS = 90.0
MEMORY_BAR = 60.0
"""MiB that only a second process of the same version may have."""
TAIL_OF_THEIRS = 0.1
TAIL_OF_MEDIAN = 3.0
MLSERVER_ROWS = ("linear-inputs-batched", "forest-inputs-batched")
TRAIN = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
features, labels = load_breast_cancer(as_frame=True, return_X_y=True)
models = {"linear": LogisticRegression(max_iter=5000), "forest": RandomForestClassifier(50, random_state=1)}
for name, model in models.items():
    model.fit(features, labels)
    mlflow.sklearn.save_model(
        model, f"{sys.argv[1]}/{name}", signature=mlflow.models.infer_signature(features, model.predict(features)),
        input_example=features.head(3), pip_requirements=["scikit-learn"],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )
features.to_json(f"{sys.argv[1]}/rows.json", orient="split", index=False)
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: which model is asked how. `bar` is the least ratio of throughputs, 0 for none.

    With 32 connections, `tail` is the bar for the 99th percentile: its part of theirs, or how often the median it is.
    """

    model: str
    form: str
    connections: int
    rows: int
    batching: bool
    bar: float


ROWS = {
    "linear-inputs-batched": Row("linear", "inputs", 32, 1, True, 40),
    "linear-split-batched": Row("linear", "dataframe_split", 32, 1, True, 80),
    "linear-inputs-single": Row("linear", "inputs", 32, 1, False, 3.5),
    "linear-split-single": Row("linear", "dataframe_split", 32, 1, False, 7),
    "forest-inputs-batched": Row("forest", "inputs", 32, 1, True, 35),
    "forest-split-batched": Row("forest", "dataframe_split", 32, 1, True, 45),
    "linear-inputs-alone": Row("linear", "inputs", 1, 1, True, 2.5),
    "forest-inputs-alone": Row("forest", "inputs", 1, 1, True, 1.4),
    "linear-thousand": Row("linear", "inputs", 4, 1000, True, 5),
    "forest-thousand": Row("forest", "inputs", 4, 1000, True, 3),
}


@dataclass(frozen=True)
class Run:
    """One server under load once: requests per second, quantiles of latency in milliseconds."""

    rate: float
    p50: float
    p99: float


class Client(asyncio.Protocol):
    """One connection that sends the next request as soon as the last one is answered, until `end`."""

    def __init__(self, request: bytes, end: float, took: list[float]) -> None:
        self._request = request
        self._end = end
        self._took = took
        self._got = b""
        self._begun = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment] # of a stream
        self._send()

    def _send(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._got += data
        head, ended, body = self._got.partition(b"\r\n\r\n")
        if not ended or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self._got[:300].decode()))
            self._transport.close()
            return
        self._took.append(time.perf_counter() - self._begun)
        self._got = b""
        if time.perf_counter() < self._end:
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed early"))


async def load(address: Path | int, request: bytes, connections: int, seconds: float) -> Run:
    """Keeps `connections` requests under way at a Unix socket or a port for `seconds`."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    clients = [Client(request, begun + seconds, took) for _ in range(connections)]
    for client in clients:
        if isinstance(address, int):
            await loop.create_connection(lambda client=client: client, "127.0.0.1", address)  # type: ignore[misc] # a default
        else:
            await loop.create_unix_connection(lambda client=client: client, str(address))  # type: ignore[misc] # the same
    await asyncio.gather(*(client.done for client in clients))
    lasted = time.perf_counter() - begun
    took.sort()
    return Run(len(took) / lasted, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3)


def request_of(row: Row, frame: dict[str, list[object]]) -> bytes:
    """The whole request of a line of the table."""
    names, data = frame["columns"], [frame["data"][at % len(frame["data"])] for at in range(row.rows)]
    records = [dict(zip(names, one, strict=True)) for one in data]  # type: ignore[call-overload] # lists of numbers
    value = {"columns": names, "data": data} if row.form == "dataframe_split" else records
    body = json.dumps({row.form: value}).encode()
    lines = ("POST /invocations HTTP/1.1", "host: m", "content-type: application/json", f"content-length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


@contextmanager
def started(command: list[str], env: dict[str, str], log: Path) -> Iterator[int]:
    """A process group that runs while the block does."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield child.pid
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@contextmanager
def ours(folder: Path, model: str, *, batching: bool) -> Iterator[Path]:
    """Our server; yields its socket."""
    path = folder / f"{model}{'' if batching else '-single'}.sock"
    serving = Serving(max_rows=64 if batching else 1)
    command, env = spec.command(Launch(path, folder / model, model, "v1", serving))
    with started(command, env, folder / "ours.log"):
        wait_for_socket(path, folder)
        yield path


def wait_for_socket(path: Path, folder: Path) -> None:
    """Returns once our server is ready."""
    end = time.monotonic() + START_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError((folder / "ours.log").read_text()[-2000:])
        time.sleep(0.05)


@contextmanager
def theirs(folder: Path, model: str) -> Iterator[int]:
    """MLflow's server, as its own command starts it; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder / model)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    _, env = spec.command(Launch(folder / "x.sock", folder / model, model, "v1"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    with started(command, env | {"PATH": path, "HOME": str(folder)}, folder / "theirs.log"):
        wait_for_port(port, START_SECONDS)
        yield port


def free_ports(number: int) -> list[int]:
    """Different TCP ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [int(probe.getsockname()[1]) for probe in probes]


@contextmanager
def mlserver(python: Path, folder: Path, model: str) -> Iterator[int]:
    """MLServer from another environment, with adaptive batching; yields its port."""
    port, grpc, metrics = free_ports(3)
    home = folder / f"mlserver-{model}"
    home.mkdir()
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc, "metrics_port": metrics}
    (home / "settings.json").write_text(json.dumps(settings | {"parallel_workers": 0}))
    batching = {"max_batch_size": 64, "max_batch_time": 0.01}
    implementation = {"name": model, "implementation": "mlserver_mlflow.MLflowRuntime"}
    described = implementation | batching | {"parameters": {"uri": str(folder / model)}}
    (home / "model-settings.json").write_text(json.dumps(described))
    _, env = spec.command(Launch(folder / "x.sock", folder / model, model, "v1"))
    path = f"{python.parent}{os.pathsep}{env['PATH']}"
    command = [str(python.with_name("mlserver")), "start", str(home)]
    with started(command, env | {"PATH": path, "HOME": str(home)}, folder / "mlserver.log"):
        wait_for_port(port, START_SECONDS)
        wait_until_ready(f"http://127.0.0.1:{port}/v2/models/{model}/ready")
        yield port


def wait_until_ready(url: str) -> None:
    """Returns once `url` answers 200."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def inference_of(row: Row, frame: dict[str, list[object]]) -> bytes:
    """The same line of the table as `request_of`, in the Open Inference Protocol."""
    data: list[float] = frame["data"][0]  # type: ignore[assignment] # it is JSON
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value], "parameters": {"content_type": "np"}}
        for name, value in zip(frame["columns"], data, strict=True)
    ]
    body = json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs}).encode()
    lines = (f"POST /v2/models/{row.model}/infer HTTP/1.1", "host: m", "content-type: application/json")
    return "\r\n".join((*lines, f"content-length: {len(body)}", "", "")).encode() + body


async def beside(python: Path, folder: Path, names: list[str], rounds: int, seconds: float) -> dict[str, list[Run]]:
    """Runs of MLServer for each named line that it can be asked."""
    frame = json.loads((folder / "rows.json").read_text())
    found: dict[str, list[Run]] = {}
    for name in names:
        row = ROWS[name]
        with mlserver(python, folder, row.model) as port:
            found[name] = [await load(port, inference_of(row, frame), row.connections, seconds) for _ in range(rounds)]
    return found


def private_memory(folder: Path) -> float:
    """MiB that only the second of two processes has, after requests to both."""
    path = folder / "two.sock"
    command, env = spec.command(Launch(path, folder / "linear", "linear", "v1", Serving(processes=2)))
    frame = json.loads((folder / "rows.json").read_text())
    with started(command, env, folder / "ours.log") as pid:
        wait_for_socket(path, folder)
        uvloop.run(load(path, request_of(ROWS["linear-inputs-single"], frame), 16, 1.0))
        return max(private_of(child) for child in leaves(pid))


def leaves(pid: int) -> list[int]:
    """The processes below `pid` that have none below them."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [leaf for child in children for leaf in leaves(child)] or [pid]


def private_of(pid: int) -> float:
    """MiB that only process `pid` has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


async def measure(folder: Path, names: list[str], rounds: int, seconds: float) -> dict[str, list[tuple[Run, Run]]]:
    """Pairs of runs, ours first, for each named line."""
    frame = json.loads((folder / "rows.json").read_text())
    found: dict[str, list[tuple[Run, Run]]] = {name: [] for name in names}
    with ExitStack() as stack:
        models = {ROWS[name].model for name in names}
        ports = {model: stack.enter_context(theirs(folder, model)) for model in models}
        kinds = {(ROWS[name].model, ROWS[name].batching) for name in names}
        sockets = {kind: stack.enter_context(ours(folder, kind[0], batching=kind[1])) for kind in kinds}
        for _ in range(rounds):
            for name in names:
                row = ROWS[name]
                request = request_of(row, frame)
                left = await load(sockets[row.model, row.batching], request, row.connections, seconds)
                right = await load(ports[row.model], request, row.connections, seconds)
                found[name].append((left, right))
    return found


def report(found: dict[str, list[tuple[Run, Run]]]) -> bool:
    """Prints the table; whether every bar is held."""
    held = True
    print("| row | ours 1/s | p50 ms | p99 ms | mlflow 1/s | p50 ms | p99 ms | × | bar | p99 | bar | |")
    print("| --- |" + " --- |" * 11)
    for name, pairs in found.items():
        row = ROWS[name]
        alone = row.connections == 1
        ratio = statistics.median(right.p50 / left.p50 if alone else left.rate / right.rate for left, right in pairs)
        cells = [
            f"{statistics.median(getattr(pair[side], what) for pair in pairs):.{digits}f}"
            for side in (0, 1)
            for what, digits in (("rate", 0), ("p50", 2), ("p99", 2))
        ]
        tail, told = tail_of(row, pairs)
        good = ratio >= row.bar and tail
        held = held and good
        cells += [f"{ratio:.1f}{' (p50)' if alone else ''}", f"{row.bar:g}", told, "held" if good else "**missed**"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return held


def tail_of(row: Row, pairs: list[tuple[Run, Run]]) -> tuple[bool, str]:
    """Whether the bar for the 99th percentile is held, and two cells that say so."""
    if row.connections < 32:
        return True, " | "
    if row.batching:
        part = statistics.median(left.p99 / right.p99 for left, right in pairs)
        return part <= TAIL_OF_THEIRS, f"1/{1 / part:.0f} of its | ≤ 1/10"
    times = statistics.median(left.p99 / left.p50 for left, _ in pairs)
    return times <= TAIL_OF_MEDIAN, f"{times:.1f} × p50 | ≤ 3"


def report_beside(found: dict[str, list[Run]]) -> None:
    """Prints what MLServer did."""
    for name, runs in found.items():
        rate, p50, p99 = (statistics.median(getattr(run, what) for run in runs) for what in ("rate", "p50", "p99"))
        print(f"MLServer, {name}: {rate:.0f} requests per second, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def main() -> int:
    """The exit code: 1 where a bar is not held."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.serving")
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="all of them, unless said")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--mlserver", type=Path, metavar="PYTHON", help="of an environment that has mlserver-mlflow")
    asked = parser.parse_args()
    with scratch() as folder:
        subprocess.run([sys.executable, "-c", TRAIN, str(folder)], check=True, capture_output=True)
        held = report(uvloop.run(measure(folder, list(asked.rows) or list(ROWS), asked.rounds, asked.seconds)))
        memory = private_memory(folder)
        print(f"private memory of a second process: {memory:.0f} MiB (bar: {MEMORY_BAR:.0f})", flush=True)
        if asked.mlserver is not None:
            report_beside(uvloop.run(beside(asked.mlserver, folder, list(MLSERVER_ROWS), asked.rounds, asked.seconds)))
    return 0 if held and memory <= MEMORY_BAR else 1


if __name__ == "__main__":
    sys.exit(main())
