"""What `serve` refuses before anything starts, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.cli import main as command_line
from router.config.settings import Settings
from router.supervisor import run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "config" / "models").mkdir(parents=True)
    return tmp_path / "config"


def serve(root: Path, *arguments: str) -> int:
    return command_line.run(["serve", "--config", str(root), "--state", str(root / "state"), *arguments])


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that would have been served."""
    found: list[Settings] = []

    def instead(settings: Settings) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(run, "serve", instead)
    monkeypatch.setattr("router.logs.set_up", lambda _: None)
    return found


def exits(call: object) -> int:
    assert callable(call)
    with pytest.raises(SystemExit) as ended:
        call()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "nowhere"], "--listen: 'nowhere' is no address"),
        (["--workers", "zero"], "--workers: 'zero' must be auto or a number"),
        (["--grace", "soon"], "--grace: 'soon' is not a duration"),
        (["--region", "eu", "--listen", "a=0.0.0.0:1"], "--region: is for a single listener"),
        (["--never-heard-of"], "No such option"),
    ],
)
def test_wrong_options_are_wrong_usage(
    root: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(root, *arguments) == 2
    assert said in capsys.readouterr().err


def test_what_is_wrong_elsewhere_is_a_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANARY_ROUTER_GRACE", "soon")
    assert serve(root) == 1
    assert "CANARY_ROUTER_GRACE: 'soon' is not a duration" in capsys.readouterr().err
    monkeypatch.delenv("CANARY_ROUTER_GRACE")
    assert serve(root / "nowhere") == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--region", "us"], ["--listen", "eu-west=127.0.0.1:0", "--listen", "us=127.0.0.1:0"]]
)
def test_a_region_that_regions_yaml_does_not_name_is_refused(
    root: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "regions.yaml").write_text("regions: [eu-west, us-east]")
    assert serve(root, *arguments) == 1
    said = capsys.readouterr().err
    assert "regions.yaml has no region 'us'" in said
    assert "serve one of eu-west, us-east" in said


@pytest.mark.parametrize("text", [None, "regions: [eu-west, us-east]", "regions: [eu-west", "regions: 5"])
def test_known_regions_are_served_and_a_broken_regions_file_stops_nobody(
    root: Path, text: str | None, served: list[Settings]
) -> None:
    if text is not None:
        (root / "regions.yaml").write_text(text)
    assert exits(lambda: serve(root, "--region", "eu-west")) == 0
    assert exits(lambda: serve(root)) == 0
    assert [set(settings.listen) for settings in served] == [{"eu-west"}, {"default"}]
