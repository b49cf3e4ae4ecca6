"""`canary-router validate` and `canary-router schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from router.cli.main import run
from router.config.json_schema import json_schema

GOOD = "model: {name}\nversions: {{v3: {{model_uri: models:/fraud/3}}}}\nstable: v3\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for name in ("fraud", "churn"):
        (tmp_path / "models" / f"{name}.yaml").write_text(GOOD.format(name=name), encoding="utf-8")
    return tmp_path


def spoil(root: Path) -> None:
    """Makes two mistakes in one model, and one in router.yaml."""
    text = GOOD.format(name="fraud").replace("stable: v3", "stabel: v3")
    (root / "models" / "fraud.yaml").write_text(text, encoding="utf-8")
    (root / "router.yaml").write_text("workers: many\n", encoding="utf-8")


def test_a_good_repository_is_said_to_be_good(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", str(root)]) == 0
    assert capsys.readouterr().out == "2 models, 0 problems\n"


def test_every_problem_is_a_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(root)
    assert run(["validate", str(root)]) == 1
    captured = capsys.readouterr()
    assert captured.out.replace(f"{root}/", "").splitlines() == [
        "models/fraud.yaml:1:1: stable: this key is missing",
        "models/fraud.yaml:3:1: stabel: unknown key (did you mean 'stable'?)",
        "router.yaml:1:10: workers: 'many' must be auto or a number from 1 to 256",
        "2 models, 3 problems",
    ]
    assert captured.err == ""


def test_one_is_counted_as_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "models" / "fraud.yaml").write_text("", encoding="utf-8")
    (root / "models" / "churn.yaml").unlink()
    assert run(["validate", str(root)]) == 1
    assert capsys.readouterr().out.endswith("1 model, 1 problem\n")


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_problems_come_as_data(root: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(root)
    assert run(["validate", "-o", output, str(root)]) == 1
    text = capsys.readouterr().out
    found = json.loads(text) if output == "json" else yaml.safe_load(text)
    assert found["models"] == 2
    assert found["problems"][1] == {
        "file": str(root / "models" / "fraud.yaml"),
        "line": 3,
        "column": 1,
        "path": "stabel",
        "message": "unknown key (did you mean 'stable'?)",
        "model": "fraud",
    }


@pytest.mark.parametrize("output", ["table", "json", "yaml", "markdown"])
def test_a_files_name_may_hold_anything(root: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "models" / "b\udcff\x1b.yaml").write_text("", encoding="utf-8")
    assert run(["validate", "-o", output, str(root)]) == 1
    text = capsys.readouterr().out
    assert "udcff" in text
    assert "\x1b" not in text
    text.encode("utf-8")


def test_a_router_file_that_leads_nowhere_is_a_problem(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "router.yaml").symlink_to("router.yaml")
    assert run(["validate", str(root)]) == 1
    assert "router.yaml:1:1: cannot be read" in capsys.readouterr().out


def test_a_missing_directory_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", str(tmp_path / "nowhere")]) == 1
    assert "no such file or directory" in capsys.readouterr().out


def test_the_directory_is_config_unless_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.rename(root.parent / "config")
    monkeypatch.chdir(root.parent)
    assert run(["validate"]) == 0


def test_the_example_repository_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", str(Path(__file__).parents[3] / "config")]) == 0
    assert capsys.readouterr().out == "1 model, 0 problems\n"


def test_wrong_usage_is_told_apart(root: Path) -> None:
    assert run(["validate", "a", "b"]) == 2
    assert run(["validate", "-o", "xml", str(root)]) == 2
    assert run(["schema", "guards"]) == 2


@pytest.mark.parametrize(("arguments", "kind"), [([], "model"), (["router"], "router"), (["regions"], "regions")])
def test_a_schema_is_printed(arguments: list[str], kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", *arguments]) == 0
    assert capsys.readouterr().out == json_schema(kind)
