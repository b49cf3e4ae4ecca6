"""A version whose lineage is missing from a real registry gets no weight, until somebody adds it there."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.integration.conftest import MlflowServer
from tests.support.router_process import PROGRAM, ROOT, RouterProcess
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(300)
SHA256 = "0123456789abcdef" * 4
MODEL = """\
model: wine
versions:
  v2: {model_uri: models:/wine/2}
  v3: {model_uri: models:/wine/3}
stable: v2
regions: {default: {v2: 90, v3: 10}}
gates:
  lineage: [dataset_hash, run]
  smoke: true
"""


def tell(server: MlflowServer, path: str, **body: str) -> None:
    """Has the registry keep something."""
    request = urllib.request.Request(f"{server.url}/api/2.0/mlflow/{path}", json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def gate(server: MlflowServer, config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """What `canary-router gate wine v3` says."""
    command = [*PROGRAM, "gate", "wine", "v3", str(config), "--registry", server.url, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)


def test_a_version_gets_weight_once_the_registry_has_its_lineage(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arguments = ("--registry", mlflow_server.url)
    with RouterProcess(tmp_path_factory.mktemp("g"), {"wine": MODEL}, arguments=arguments) as router:
        eventually(lambda: router.model("wine")["versions"]["v3"]["gates"], 90, "the gates were looked at")
        shown = router.model("wine")
        assert (shown["effective"], shown["versions"]["v3"]["state"]) == ({"v2": 100, "v3": 0}, "gated")
        failed = [finding["gate"] for finding in shown["versions"]["v3"]["gates"] if not finding["passed"]]
        assert failed == ["lineage.dataset_hash"]
        assert "tag dataset_sha256 of models:/wine/3" in shown["versions"]["v3"]["reason"]

        before = gate(mlflow_server, router.config, "-o", "json")
        assert (before.returncode, before.stderr) == (1, "")
        assert {each["gate"]: each["passed"] for each in json.loads(before.stdout)["findings"]} == {
            "lineage.dataset_hash": False, "lineage.run": True, "smoke": True,
        }  # fmt: skip

        tell(mlflow_server, "model-versions/set-tag", name="wine", version="3", key="dataset_sha256", value=SHA256)
        eventually(lambda: router.model("wine")["effective"] == {"v2": 90, "v3": 10}, 90, "v3 has its weight")

        _, body = router.get("/api/v1/audit?model=wine")
        gates = [entry for entry in json.loads(body)["entries"] if entry["action"] == "gate"]
        assert [(entry["version"], entry["after"]["passed"]) for entry in gates] == [("v3", False), ("v3", True)]
        assert gates[1]["evidence"]["seen"]["tags"]["dataset_sha256"] == SHA256
        assert len(gates[1]["after"]["artifacts"]) == 64
