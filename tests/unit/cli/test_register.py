"""Tests of `canary-router register`; `tests/integration/test_registry.py` has it register a model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import run
from router.registry import client
from router.registry.types import Brought

MODEL = ["register", "--from", "s3://bucket/m", "--name", "fraud", "--git-commit", "0a1b2c3d", "--dataset-digest", "d1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No router.yaml and no registry is found by chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--git-commit", "main"], "7 to 64 hexadecimal digits"),
        (["--metric", "auc"], "is no NAME=NUMBER"),
        (["--metric", "auc=high"], "is no NAME=NUMBER"),
    ],
)
def test_what_is_wrong_usage(more: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*MODEL, *more]) == 2
    assert says in capsys.readouterr().err


def test_what_was_given_is_told_to_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    async def register(origin: str, **named: Any) -> Brought:
        asked.update(named, origin=origin)
        await asyncio.sleep(0)
        return Brought(name="fraud", version="4", run_id="r", digest="ab" * 32)

    monkeypatch.setattr(client, "register", register)
    monkeypatch.setenv("CANARY_ROUTER_REGISTRY", "http://mlflow:5000")
    assert run([*MODEL, "--metric", "auc=0.97", "--metric", "log_loss=0.1"]) == 0
    assert asked == {
        "origin": "s3://bucket/m",
        "name": "fraud",
        "registry": "http://mlflow:5000",
        "git_commit": "0a1b2c3d",
        "dataset": ("training", "d1"),
        "metrics": {"auc": 0.97, "log_loss": 0.1},
    }
    assert "next: model_uri: models:/fraud/4" in capsys.readouterr().out


def test_without_a_registry_it_says_where_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(MODEL) == 1
    assert "needs an MLflow registry and none is set" in capsys.readouterr().err
