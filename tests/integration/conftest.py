"""Real systems for the tests that need them.

Rules:
1. Started once for the whole session, on a port of the machine's choosing, with data in a temporary directory.
2. Ended in every case, also when the test run is killed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from router.cli import mlflow_server as server_program

START_SECONDS = 90.0


@dataclass(frozen=True)
class MlflowServer:
    """A real MLflow server over HTTP, holding the models of `tests/support/registry_models.py`.

    `model` has the good `versions`; `example_rows` with `columns` and `labels` are rows of its data set; `runs` are the
    runs that logged the good versions.
    """

    url: str
    columns: list[str]
    example_rows: list[list[float]]
    labels: list[int]
    runs: list[str]
    model: str = "wine"
    versions: tuple[str, ...] = ("1", "2")
    moody_version: str = "3"

    def request(self, *rows: int) -> dict[str, object]:
        """The body of a prediction for the example rows with these indices."""
        return {"dataframe_split": {"columns": self.columns, "data": [self.example_rows[row] for row in rows]}}


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server with registered models; it takes ten to twenty seconds to start, once."""
    root = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    lifeline, ours = os.pipe()
    with (root / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "router.cli.guarded", str(lifeline), *server_program.command(root, port)],
            pass_fds=[lifeline],
            env=server_program.environment(),
            stdout=log,
            stderr=log,
        )
    try:
        os.close(lifeline)
        _wait_until_healthy(server, url, root / "server.log")
        yield _register_models(url, root)
    finally:
        os.close(ours)
        server.wait(30)


@pytest.fixture(scope="session")
def serving_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the models of `tests/support/serving_models.py`."""
    root = tmp_path_factory.mktemp("m")
    command = [sys.executable, "-m", "tests.support.serving_models", str(root)]
    subprocess.run(command, check=True, capture_output=True, timeout=START_SECONDS)
    return root


@pytest.fixture(scope="session")
def serving_peers(serving_models: Path) -> Iterator[Path]:
    """The same directory, with a socket of ours and one of MLflow's beside every model; see `serving_peers.py`."""
    command = [sys.executable, "-m", "tests.support.serving_peers", str(serving_models)]
    log = serving_models / "peers.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        said = process.stdout.readline()
        assert said == b"ready\n", log.read_text()[-2000:]
        yield serving_models
        process.stdin.close()


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-2000:]}", pytrace=False)


def _register_models(url: str, root: Path) -> MlflowServer:
    out = root / "models.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.registry_models", url, str(out)],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the models could not be registered:\n{done.stderr[-3000:]}", pytrace=False)
    known = json.loads(out.read_text())
    return MlflowServer(
        url=url, columns=known["columns"], example_rows=known["rows"], labels=known["labels"], runs=known["runs"]
    )
