"""`canary-router plan`, from a folder and a commit to what a reviewer reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from router.cli.main import run
from router.cli.plan_words import MARK, MOST_CHARACTERS, as_markdown, duration
from router.control.plan import compare
from router.control.plan_types import Assumptions
from tests.support.configs import config_of, loaded, new_repository, text_of, write_model

pytestmark = pytest.mark.needs("git")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repository", fraud=text_of(), churn=text_of("churn"))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(["plan", *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_a_change_is_told_against_a_commit(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(repository, "fraud", text_of(split="v3: 70, v4: 30", more="timeout: 2s\n"))
    code, said = told(capsys, str(repository / "config"), "--against", "HEAD", "--rate", "20")
    assert code == 0
    assert "1 model changes against" in said
    assert "v3 90% (stable), v4 10%  v3 70% (stable), v4 30%  20% v3 → v4; nobody else" in said
    assert "fraud: timeout: 30s → 2s" in said
    assert "v4 at 30%  20%    8.2s" in said


def test_exit_code_tells_a_difference(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    against = [str(repository / "config"), "--against", "main", "--exit-code"]
    code, said = told(capsys, *against)
    assert (code, said.startswith("nothing changes against ")) == (0, True)
    write_model(repository, "fraud", text_of(split="v3: 70, v4: 30"))
    assert told(capsys, *against)[0] == 3


def test_a_folder_may_be_compared_with(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other" / "models").mkdir(parents=True)
    (tmp_path / "other" / "regions.yaml").write_text("regions: [eu]\n")
    for name in ("fraud", "churn"):
        (tmp_path / "other" / "models" / f"{name}.yaml").write_text(text_of(name, split="v3: 100"))
    code, said = told(capsys, str(repository / "config"), "--against", str(tmp_path / "other"), "-o", "json")
    data = json.loads(said)
    assert (code, [model["model"] for model in data["models"]]) == (0, ["churn", "fraud"])
    assert data["models"][0]["regions"][0]["moves"] == [{"from": "v3", "to": "v4", "percent": 10.0}]


def test_relative_paths_are_the_same_on_both_sides(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = text_of().replace("{upstreams: [http://127.0.0.1:5003]}", "{model_uri: ./model}")
    write_model(repository, "fraud", local)
    new = new_repository(repository.parent / "new", fraud=local)
    assert told(capsys, str(new / "config"), "--against", "HEAD", "--exit-code")[0] == 0


@pytest.mark.parametrize("output", ["table", "markdown", "json", "yaml"])
def test_problems_are_told_and_fail(repository: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(repository, "fraud", text_of(split="v3: 70"))
    code, said = told(capsys, str(repository / "config"), "--against", "HEAD", "--exit-code", "-o", output)
    assert code == 1
    assert "the weights sum to 70%" in said.replace("\\", "")
    if output == "yaml":
        assert yaml.safe_load(said)["differs"] is False


def test_markdown_begins_with_its_mark_and_holds_no_markup_of_others(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(repository, "evil", text_of("evil", more='owner: "@all <img src=x> [a](b) | `c`"\n'))
    code, said = told(capsys, str(repository / "config"), "--against", "HEAD", "-o", "markdown")
    assert (code, said.splitlines()[0]) == (0, MARK)
    assert "(owner: &#64;all &lt;img src=x&gt; \\[a\\](b) \\| \\`c\\`)" in said


def test_a_comment_stays_below_its_limit() -> None:
    names = [f"model-{number}" for number in range(200)]
    many = loaded(*(config_of(text_of(name), name) for name in names))
    said = as_markdown(compare(loaded(), many, Assumptions()), "main")
    assert len(said) < MOST_CHARACTERS + 200
    assert said.endswith("models more: run `canary-router plan` for all of them.")


def test_regions_that_listeners_name_are_known(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listen = "listen: {eu-west: 127.0.0.1:1, us-east: 127.0.0.1:2}\n"
    (repository / "config" / "router.yaml").write_text(listen)
    write_model(repository, "fraud", text_of().replace("stickiness", "  eu-wset: {v3: 100}\nstickiness"))
    arguments = (str(repository / "config"), "--against", "HEAD")
    assert "no region 'eu-wset' is known here (did you mean 'eu-west'?)" in told(capsys, *arguments)[1]
    (repository / "config" / "router.yaml").write_text("workers: many\n")
    assert "warning" not in told(capsys, *arguments)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "nosuch"], "there is no commit 'nosuch'"),
        (["--against", "--output=x"], "there is no commit"),
        (["--against", "HEAD", "--rate", "much"], "is no rate"),
        (["--against", "HEAD", "--rate", "0"], "more than 0"),
        (["--against", "HEAD", "--rate", "nan"], "more than 0"),
        (["--against", "HEAD", "--stable-error-rate", "0.5"], "ambiguous"),
        ([], "Missing option '--against'"),
    ],
)
def test_what_cannot_be_compared_is_told(
    repository: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", str(repository / "config"), *arguments]) in {1, 2}
    assert said in capsys.readouterr().err


def test_a_missing_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(tmp_path / "gone"), "--against", "HEAD"]) == 1
    assert "is no folder" in capsys.readouterr().err


def test_a_broken_commit_before_is_no_obstacle(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = new_repository(repository.parent / "bad", fraud="model: [")
    (bad / "config" / "models" / "fraud.yaml").write_text(text_of())
    code, said = told(capsys, str(bad / "config"), "--against", "HEAD")
    assert (code, "not served" in said) == (0, True)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.01, "0.1s"), (8.24, "8.2s"), (75, "75s"), (600, "10m"), (9000, "2h"), (36000, "10h"), (200_000, "2.3 days"),
     (1e7, "116 days")],
)  # fmt: skip
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said
