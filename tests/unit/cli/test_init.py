"""`canary-router init`: what it writes is right as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from router.cli.init import _check
from router.cli.main import run
from router.cli.mlflow_api import Mlflow, Registered
from router.cli.scaffold import model_files
from router.config.load import load_repository
from router.errors import OperatorError, UpstreamError

Answer = Callable[[httpx.Request], httpx.Response]


def server(*pages: dict[str, Any]) -> Mlflow:
    """An MLflow server that answers one page after the other."""
    left = list(pages)
    return Mlflow("http://mlflow/", httpx.MockTransport(lambda _: httpx.Response(200, json=left.pop(0))))


def model(name: str, *versions: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "latest_versions": [{"version": each} for each in versions], **more}


def test_what_it_writes_is_right_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert run(["init"]) == 0
    assert "next: canary-router validate" in capsys.readouterr().out
    assert run(["validate"]) == 0
    assert capsys.readouterr().out == "1 model, 0 problems\n"
    for path in (".pre-commit-config.yaml", ".github/workflows/canary-router.yml"):
        assert yaml.safe_load((tmp_path / path).read_text())


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "router.yaml").write_text("mine")
    assert run(["init", str(tmp_path)]) == 1
    assert "router.yaml exists already\n  nothing was written" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["router.yaml"]
    assert (tmp_path / "config" / "router.yaml").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["init", str(tmp_path / "file" / "below")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "http://user:secret@mlflow:5000", "mydir"])
def test_a_registry_is_a_url(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path), "--from-registry", url]) == 2
    assert "secret" not in capsys.readouterr().err


def test_a_registry_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path), "--from-registry", "http://127.0.0.1:1"]) == 1
    assert "no MLflow server answers at http://127.0.0.1:1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_gets_its_champion_or_its_newest_version() -> None:
    found = server(
        {"registered_models": [model("fraud", "3", "12")], "next_page_token": "more"},
        {"registered_models": [model("churn", "5", aliases=[{"alias": "Champion", "version": "4"}]), model("new")]},
    ).models()
    assert found == [
        Registered("fraud", "12", "the newest version"),
        Registered("churn", "4", "the version with the alias 'champion'"),
        Registered("new", "", ""),
    ]


def test_versions_that_are_not_ready_do_not_count() -> None:
    entry = {"name": "fraud", "latest_versions": [{"version": "2", "status": "PENDING_REGISTRATION"}, {"version": "1"}]}
    assert server({"registered_models": [entry, {"name": 5}, "x"]}).models() == [
        Registered("fraud", "1", "the newest version")
    ]


def test_a_config_for_each_model_that_can_be_named(tmp_path: Path) -> None:
    hostile = "line\nbreak: {} # \u2028 é \" ' 😀 " + "x" * 500
    scaffold = model_files(
        "http://mlflow:5000",
        [
            Registered("fraud", "3", "the newest version", hostile),
            Registered("Card fraud (EU)", "2", "the newest version"),
            Registered("card-fraud", "1", "the newest version"),
            Registered("Card fraud [EU]", "9", "the newest version"),
            Registered("123", "1", "the newest version"),
            Registered("😀 smile", "1", "the newest version"),
            Registered("...", "1", "the newest version"),
            Registered("bad\nname", "1", "the newest version"),
            Registered("empty"),
        ],
    )
    for path, text in scaffold.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    loaded = load_repository(tmp_path / "config")
    assert not loaded.problems
    assert sorted(loaded.configs) == ["123", "Card-fraud-EU", "card-fraud", "fraud", "smile"]
    assert loaded.configs["Card-fraud-EU"].versions["v2"].model_uri == "models:/Card fraud (EU)/2"
    assert len(scaffold.remarks) == 4
    _check(scaffold)


def test_an_empty_registry_gives_the_example() -> None:
    scaffold = model_files("http://mlflow:5000", [])
    assert "config/models/example.yaml" in scaffold.files
    assert "registry: http://mlflow:5000" in scaffold.files["config/router.yaml"]
    _check(scaffold)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (httpx.Response(401), OperatorError, "refuses the credentials"),
        (httpx.Response(404), UpstreamError, "is no MLflow server"),
        (httpx.Response(200, text="<html>"), UpstreamError, "is no MLflow server"),
        (httpx.Response(302, headers={"location": "http://elsewhere/"}), UpstreamError, "is no MLflow server"),
    ],
)
def test_what_is_no_registry_is_told(answer: httpx.Response, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        Mlflow("http://mlflow", httpx.MockTransport(lambda _: answer)).models()


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "secret"}, "Bearer secret"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
        ({}, None),
    ],
)
def test_credentials_are_mlflows_own(
    variables: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str | None] = []
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers.get("authorization"))
        return httpx.Response(200, text=json.dumps([]))

    assert Mlflow("http://mlflow", httpx.MockTransport(answer)).models() == []
    assert heard == [sent]
