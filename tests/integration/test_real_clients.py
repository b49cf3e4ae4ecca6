"""End to end: models from a real MLflow server over HTTP, asked by the clients that people have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.conftest import MlflowServer
from tests.integration.test_serving import below
from tests.support.router_process import RouterProcess
from tests.support.wait import eventually

MODEL = """
model: wine
owner: tests
versions:
  v1: {model_uri: "models:/wine/1", processes: 2, memory: 512MiB, batching: {max_rows: 64, max_delay: 1ms}}
  v2: {model_uri: "models:/wine@eu_west_champion"}
  v3: {model_uri: "models:/wine/3"}
stable: v1
regions: {default: {v1: 60, v2: 40}}
stickiness: {header: x-customer-id}
allow_override: true
"""

DEPLOYMENTS = """
import json, sys
from mlflow.deployments import get_deploy_client
url, body = sys.argv[1:]
print(json.dumps(get_deploy_client(url).predict(endpoint="wine", inputs=json.loads(body))))
"""


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowServer) -> Iterator[RouterProcess]:
    directory = tmp_path_factory.mktemp("clients")
    arguments = ["--registry", mlflow_server.url]
    with RouterProcess(directory, {"wine": MODEL}, arguments=arguments) as running:
        eventually(
            lambda: {v["state"] for v in running.model("wine")["versions"].values()} == {"ready"}, 60, "all are loaded"
        )
        yield running


def test_the_config_says_how_a_version_is_served(router: RouterProcess) -> None:
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in router.pids("pyfunc-")}
    ((guard, asked),) = (
        (pid, words) for pid, words in commands.items() if words[words.index(b"--processes") + 1] == b"2"
    )
    assert asked[asked.index(b"--batch-rows") + 1] == b"64"
    assert asked[asked.index(b"--batch-delay") + 1] == b"0.001"
    assert asked[asked.index(b"--memory") + 1] == b"536870912"
    # Its parent, and two that serve.
    assert len(below(guard)) == 3
    assert len(router.model("wine")["versions"]["v1"]["resolved"]["sha256"]) == 64


def test_requests_gets_the_answer_of_the_version_that_its_key_belongs_to(
    router: RouterProcess, mlflow_server: MlflowServer
) -> None:
    versions = set()
    with requests.Session() as session:
        for number in range(40):
            response = session.post(
                f"{router.url}/models/wine/invocations",
                json=mlflow_server.request(0, 1, 2),
                headers={"x-customer-id": f"c{number}"},
                timeout=10,
            )
            assert response.status_code == 200, response.text
            assert len(response.json()["predictions"]) == 3
            versions.add(response.headers["x-model-version"])
    assert versions == {"v1", "v2"}


def test_mlflow_deployments_predicts(router: RouterProcess, mlflow_server: MlflowServer) -> None:
    command = [sys.executable, "-c", DEPLOYMENTS, router.url, json.dumps(mlflow_server.request(0))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 1


@pytest.mark.needs("curl")
@pytest.mark.parametrize("path", ["models/wine", "endpoints/wine", "serving-endpoints/wine"])
def test_curl_predicts(router: RouterProcess, mlflow_server: MlflowServer, path: str) -> None:
    command = [
        *("curl", "-sS", "--fail-with-body", "--max-time", "10", "-w", "\n%header{x-model-version}"),
        *("-H", "content-type: application/json", "-d", json.dumps(mlflow_server.request(0))),
        f"{router.url}/{path}/invocations",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    answer, version = done.stdout.rsplit("\n", 1)
    assert len(json.loads(answer)["predictions"]) == 1
    assert version in {"v1", "v2"}


def test_aliases_are_pinned_and_shown(router: RouterProcess) -> None:
    shown = router.model("wine")["versions"]["v2"]
    assert "models:/wine/2" in json.dumps(shown)


def test_an_exception_inside_the_model_leaves_no_trace(router: RouterProcess, mlflow_server: MlflowServer) -> None:
    columns = mlflow_server.columns
    row = [-1.0 if column == "alcohol" else 1.0 for column in columns]
    response = requests.post(
        f"{router.url}/models/wine/invocations",
        json={"dataframe_split": {"columns": columns, "data": [row]}},
        headers={"x-model-version": "v3"},
        timeout=10,
    )
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/json"
    assert "Traceback" not in response.text
    assert "alcohol" not in response.text
    assert "alcohol cannot" not in router.log


def test_a_client_mistake_is_answered_as_mlflow_does(router: RouterProcess) -> None:
    url = f"{router.url}/models/wine/invocations"
    assert requests.post(url, data=b"a,b", headers={"content-type": "text/weird"}, timeout=10).status_code == 415
    assert requests.post(url, json={"nonsense": 1}, timeout=10).status_code == 400


TRITON = """
import json, sys
import numpy as np
import tritonclient.http as triton
url, names, rows = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("wine")
told = client.get_model_metadata("wine")
assert [(each["name"], each["datatype"]) for each in told["inputs"]] == [(name, "FP64") for name in names], told
said = []
for binary, squeezed in ((False, None), (True, None), (True, "gzip"), (False, "deflate")):
    inputs = []
    for number, name in enumerate(names):
        column = np.array([row[number] for row in rows])
        inputs.append(triton.InferInput(name, [len(rows)], "FP64"))
        inputs[-1].set_data_from_numpy(column, binary_data=binary)
    output = triton.InferRequestedOutput("predictions", binary_data=binary)
    answer = client.infer("wine", inputs, outputs=[output], headers={"x-model-version": "v1"}, request_id="7",
                          request_compression_algorithm=squeezed, response_compression_algorithm=squeezed)
    assert answer.get_response()["id"] == "7"
    said.append(answer.as_numpy("predictions").tolist())
print(json.dumps(said))
"""


def test_tritonclient_speaks_the_open_inference_protocol(router: RouterProcess, mlflow_server: MlflowServer) -> None:
    rows = mlflow_server.example_rows[:3]
    asked = requests.post(
        f"{router.url}/models/wine/invocations",
        json=mlflow_server.request(0, 1, 2),
        headers={"x-model-version": "v1"},
        timeout=10,
    )
    done = subprocess.run(
        [sys.executable, "-c", TRITON, router.url.removeprefix("http://"), json.dumps(mlflow_server.columns),
         json.dumps(rows)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [asked.json()["predictions"]] * 4
