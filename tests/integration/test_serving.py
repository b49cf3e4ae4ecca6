"""The pyfunc server with real models, over its real socket."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from router.config.serving import AS_USUAL, Launch, Serving
from router.serving import spec
from tests.integration.conftest import MlflowServer

START_SECONDS = 60.0
Fetch = Callable[[str], Path]


@pytest.fixture(scope="module")
def fetched(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Fetch:
    """Brings a model's files here, each once."""
    root = tmp_path_factory.mktemp("fetched")

    def fetch(uri: str) -> Path:
        directory = root / uri.replace("/", "_")
        command = [*("-m", "router.registry", "fetch", uri), "--to", str(directory), "--registry", mlflow_server.url]
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        return directory

    return fetch


class Served:
    """A pyfunc server as the supervisor would run it."""

    def __init__(self, path: Path, model: Path, serving: Serving = AS_USUAL, python: Path | None = None) -> None:
        self.socket = path
        self.argv, self.env = spec.command(Launch(path, model, "wine", "v1", serving, python))
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.argv, env=self.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def kill_and_start_again(self) -> None:
        """What the supervisor does when it was killed with -9."""
        self.process.kill()
        self.close()
        self.process = self._start()

    def client(self) -> httpx.Client:
        """A client of its socket."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://model", timeout=60)

    def wait_until_ready(self) -> None:
        """Returns once it answers its probe."""
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None:
                pytest.fail(self.said())
            assert time.monotonic() < deadline, "the pyfunc server did not start"
            time.sleep(0.05)
        with self.client() as client:
            assert client.get("/ping").status_code == 200

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def said(self) -> str:
        """Everything on standard error, once it has ended."""
        return self.process.communicate(timeout=START_SECONDS)[1].decode()

    def close(self) -> None:
        """Ends it, however it stands."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def wine(fetched: Fetch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The good model, served."""
    served = Served(tmp_path_factory.mktemp("wine") / "w.sock", fetched("models:/wine/1"))
    served.wait_until_ready()
    yield served
    served.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], Served]]:
    """Starts servers that end with the test."""
    started: list[Served] = []

    def start(model: Path) -> Served:
        started.append(Served(tmp_path / "s", model))
        return started[-1]

    yield start
    for served in started:
        served.close()


def test_it_predicts_what_the_model_says(wine: Served, mlflow_server: MlflowServer) -> None:
    with wine.client() as client:
        answer = client.post("/invocations", json=mlflow_server.request(*range(20)))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    right = sum(said == label for said, label in zip(answer.json()["predictions"], mlflow_server.labels, strict=True))
    assert right >= 18


def test_every_form_of_the_protocol_says_the_same(wine: Served, mlflow_server: MlflowServer) -> None:
    columns, row = mlflow_server.columns, mlflow_server.example_rows[0]
    forms = [
        mlflow_server.request(0),
        {"dataframe_records": [dict(zip(columns, row, strict=True))]},
        {"inputs": [dict(zip(columns, row, strict=True))]},
        {"instances": [dict(zip(columns, row, strict=True))]},
    ]
    csv = ",".join(columns) + "\n" + ",".join(map(str, row)) + "\n"
    with wine.client() as client:
        answers = [client.post("/invocations", json=form) for form in forms]
        answers.append(client.post("/invocations", content=csv, headers={"content-type": "text/csv; charset=utf-8"}))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"{}", 400),
        ("application/json", b'{"inputs": [1], "instances": [1]}', 400),
        ("application/json", b'{"dataframe_split": {"columns": ["alcohol"], "data": [[1]]}}', 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[" * 100_000, 400),
        ("text/csv", b'a,b\n"1,2', 400),
        ("application/vnd.apache.parquet", b"not parquet", 400),
        ("application/xml", b"<a/>", 415),
        ("application/json; charset=latin-1", b"{}", 415),
        ("application/json; profile=x", b"{}", 415),
        (None, b"{}", 415),
    ],
)
def test_a_clients_mistake_is_the_clients(wine: Served, content_type: str | None, body: bytes, status: int) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    with wine.client() as client:
        answer = client.post("/invocations", content=body, headers=headers)
    assert answer.status_code == status
    assert "stack_trace" not in answer.text


def test_an_exception_inside_the_model_is_500_without_its_words(
    fetched: Fetch, start: Callable[[Path], Served], mlflow_server: MlflowServer
) -> None:
    served = start(fetched(f"models:/wine/{mlflow_server.moody_version}"))
    served.wait_until_ready()
    moody = mlflow_server.request(0)
    row = dict(zip(mlflow_server.columns, mlflow_server.example_rows[0], strict=True))
    with served.client() as client:
        assert client.post("/invocations", json=moody).json() == {"predictions": [0]}
        answer = client.post("/invocations", json={"dataframe_records": [row | {"alcohol": -1.0}]})
        assert client.post("/invocations", json=moody).status_code == 200
    assert answer.status_code == 500
    assert "alcohol" not in answer.text
    served.process.send_signal(signal.SIGTERM)
    said = served.said()
    assert re.search(r"the model raised ValueError in predict \(.*code_of_model\.py:7\)", said)
    assert "alcohol cannot be negative" not in said


@pytest.mark.parametrize(
    ("version", "says"),
    [("1", "a library that is missing here.*no_such_library"), ("3", "fails on its own input example.*not today")],
)
def test_a_model_that_cannot_be_served_says_why_and_ends(
    fetched: Fetch, start: Callable[[Path], Served], version: str, says: str
) -> None:
    served = start(fetched(f"models:/broken/{version}"))
    line = served.said().strip().splitlines()[-1]
    told = json.loads(line)
    assert served.process.returncode == 3
    assert (told["model"], told["version"]) == ("wine", "v1")
    assert re.search(says, told["error"])
    assert told["hint"]
    assert spec.fault_of(served.socket).read_text() == line
    assert not served.socket.exists()


def test_a_damaged_artifact_says_why_and_ends(fetched: Fetch, start: Callable[[Path], Served], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(fetched("models:/wine/1"), damaged)
    (damaged / "model.skops").write_bytes(b"PK no more")
    served = start(damaged)
    told = json.loads(served.said().strip().splitlines()[-1])
    assert served.process.returncode == 3
    assert "cannot be loaded" in told["error"]


def test_killed_and_back_on_the_same_path(
    fetched: Fetch, start: Callable[[Path], Served], mlflow_server: MlflowServer
) -> None:
    served = start(fetched("models:/wine/2"))
    served.wait_until_ready()
    served.kill_and_start_again()
    assert served.socket.exists()
    served.wait_until_ready()
    with served.client() as client:
        assert client.post("/invocations", json=mlflow_server.request(0)).status_code == 200


def test_sigterm_answers_what_is_in_flight(
    fetched: Fetch, start: Callable[[Path], Served], mlflow_server: MlflowServer
) -> None:
    served = start(fetched("models:/wine/1"))
    served.wait_until_ready()
    many = mlflow_server.request(*list(range(20)) * 2_500)
    with ThreadPoolExecutor(1) as other, served.client() as client:
        client.get("/ping")
        asked = other.submit(client.post, "/invocations", json=many)
        busy_until_processor_time(below(served.process.pid)[-1])
        served.process.send_signal(signal.SIGINT)
        served.process.send_signal(signal.SIGTERM)
        assert len(asked.result(60).json()["predictions"]) == 50_000
    assert served.process.wait(30) == 0
    assert not served.socket.exists()


def test_the_model_sees_no_secret(wine: Served) -> None:
    _parent, *serving = below(wine.process.pid)
    for pid in serving:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {line.partition(b"=")[0].decode() for line in environ if line}
        assert names == set(spec.environment({}, Path(), 1)) | (names & {"TZ", "LC_ALL", "LC_CTYPE", "TMPDIR"})
        assert Path(f"/proc/{pid}/cwd").readlink() == spec.scratch_of(wine.socket)


def below(pid: int) -> list[int]:
    """The processes below `pid`, the nearest first."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [each for child in children for each in below(child)]


def busy_until_processor_time(pid: int) -> None:
    """Returns once process `pid` has used some more processor time: it works on the request."""

    def used() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before, deadline = used(), time.monotonic() + START_SECONDS
    while used() - before < 2:
        assert time.monotonic() < deadline, "the request never got there"
        time.sleep(0.002)
