"""Tests of router.serving.spec."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from router.config.serving import Launch, Serving
from router.serving import spec

SECRETS = {
    "CANARY_ROUTER_TOKEN": "t",
    "MLFLOW_TRACKING_URI": "http://u:p@mlflow",
    "MLFLOW_TRACKING_TOKEN": "m",
    "AWS_SECRET_ACCESS_KEY": "a",
    "GITHUB_TOKEN": "g",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "HOME": "/root",
}


def test_a_model_sees_no_secret() -> None:
    seen = spec.environment(SECRETS | {"PATH": "/opt/bin", "TZ": "Europe/Berlin"}, Path("/run/x.home"), 2)
    assert not set(seen) & (set(SECRETS) - {"HOME"})
    assert not set(seen.values()) & set(SECRETS.values())
    assert (seen["HOME"], seen["PATH"], seen["TZ"]) == ("/run/x.home", "/opt/bin", "Europe/Berlin")


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (4, "1"), (8, "2"), (64, "16")])
def test_versions_share_the_machine(cores: int, threads: str) -> None:
    seen = spec.environment({}, Path("/x"), cores)
    assert {seen[name] for name in seen if name.endswith("_NUM_THREADS")} == {threads}


def test_a_cap_of_the_operators_is_kept() -> None:
    assert spec.environment({"OMP_NUM_THREADS": "7"}, Path("/x"), 2)["OMP_NUM_THREADS"] == "7"


def test_the_command_is_this_python_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_ROUTER_TOKEN", "t")
    argv, env = spec.command(Launch(Path("/run/a.sock"), Path("/models/1"), "fraud", "v1"))
    assert argv == [
        *(sys.executable, "-m", "router.serving", "--socket", "/run/a.sock", "--model", "/models/1"),
        *("--name", "fraud", "--version", "v1", "--batch-rows", "1", "--batch-delay", "0.0"),
        *("--processes", "1", "--memory", "0"),
    ]
    assert "CANARY_ROUTER_TOKEN" not in env


def test_a_config_s_wishes_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/the/routers")
    serving = Serving(max_rows=64, max_delay=0.002, processes=3, isolated=True, memory=2**30)
    launch = Launch(Path("/run/a.sock"), Path("/models/1"), "fraud", "v1", serving, Path("/env/bin/python"))
    argv, env = spec.command(launch)
    assert argv[0] == "/env/bin/python"
    assert argv[-8:] == [*("--batch-rows", "64", "--batch-delay", "0.002"), *("--processes", "3"),
                         *("--memory", "1073741824")]  # fmt: skip
    assert "PYTHONPATH" not in env


def test_importing_it_is_cheap() -> None:
    code = "import sys, router.serving.spec; print({'mlflow', 'asyncio', 'uvicorn'} & set(sys.modules) or 'cheap')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "cheap"
