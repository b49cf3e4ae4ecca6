"""What CI says to a pull request: the action, its script against a forge that is played, and the hooks."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.cli.main import COMMANDS
from router.cli.plan_words import MARK
from tests.support.configs import new_repository, text_of, write_model

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "deploy" / "ci" / "pull_request.py"


class Forge(ThreadingHTTPServer):
    """Keeps the comments of pull request 7; refuses to take any where `closed`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict[str, Any]] = []
        self.closed = False
        self.tokens: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    server: Forge

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        page = int(self.path.rpartition("page=")[2])
        self._answer(200, self.server.comments[(page - 1) * 100 : page * 100])

    def do_POST(self) -> None:
        assert self.path == "/repos/org/configs/issues/7/comments"
        self._take(len(self.server.comments))

    def do_PATCH(self) -> None:
        match = re.fullmatch(r"/repos/org/configs/issues/comments/(\d+)", self.path)
        assert match
        self._take(int(match[1]))

    def _take(self, number: int) -> None:
        self.server.tokens.add(self.headers["authorization"])
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))["body"]
        if self.server.closed:
            self._answer(403, {})
            return
        self.server.comments[number : number + 1] = [{"id": number, "body": body, "user": {"type": "Bot"}}]
        self._answer(201, {})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def forge() -> Iterator[Forge]:
    with Forge() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repository", fraud=text_of(), churn=text_of("churn"))


def run(repository: Path, forge: Forge, **more: str) -> subprocess.CompletedProcess[str]:
    """The script in `repository`, as the action starts it."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "GITHUB_API_URL": f"http://127.0.0.1:{forge.server_address[1]}",
        "GITHUB_REPOSITORY": "org/configs",
        "GITHUB_OUTPUT": str(repository.parent / "output"),
        "GITHUB_STEP_SUMMARY": str(repository.parent / "summary"),
        "INPUT_AGAINST": "HEAD",
        "INPUT_TOKEN": "secret",
        "PULL_REQUEST": "7",
        **more,
    }
    command = [sys.executable, str(SCRIPT)]
    return subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.needs("git")
def test_a_plan_is_one_comment_that_is_kept_up_to_date(repository: Path, forge: Forge) -> None:
    forge.comments = [{"id": number, "body": "hello", "user": {"type": "User"}} for number in range(100)]
    forge.comments.append({"id": 100, "body": MARK, "user": {"type": "User"}})
    write_model(repository, "fraud", text_of(split="v3: 70, v4: 30"))
    done = run(repository, forge, INPUT_RATE="20 eu-west=5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(forge.comments) == 102
    assert "20% v3 → v4; nobody else" in forge.comments[101]["body"]
    assert forge.tokens == {"Bearer secret"}
    write_model(repository, "fraud", text_of(split="v3: 60, v4: 40"))
    run(repository, forge)
    assert len(forge.comments) == 102
    assert "30% v3 → v4; nobody else" in forge.comments[101]["body"]
    write_model(repository, "fraud", text_of())
    run(repository, forge)
    assert "nothing changes" in forge.comments[101]["body"]
    assert (repository.parent / "output").read_text().splitlines() == [
        "problems=0", "differs=true", "problems=0", "differs=true", "problems=0", "differs=false",
    ]  # fmt: skip


@pytest.mark.needs("git")
def test_where_nothing_changes_there_is_no_comment(repository: Path, forge: Forge) -> None:
    assert run(repository, forge).returncode == 0
    assert forge.comments == []
    assert "nothing changes" in (repository.parent / "summary").read_text()


@pytest.mark.needs("git")
def test_problems_are_annotations_at_their_lines(repository: Path, forge: Forge) -> None:
    write_model(repository, "fraud", text_of(split="v3: 70"))
    write_model(repository, "a,b%", "model: [\n")
    done = run(repository, forge)
    assert done.returncode == 1
    assert (
        "::error file=config/models/fraud.yaml,line=8,col=12,title=canary-router::"
        "regions.default: the weights sum to 70%25, not to 100%25"
    ) in done.stdout.splitlines()
    assert "::error file=config/models/a%2Cb%25.yaml,line=1," in done.stdout
    assert "The configs have problems" in forge.comments[0]["body"]


@pytest.mark.needs("git")
def test_a_comment_that_may_not_be_posted_fails_nothing(repository: Path, forge: Forge) -> None:
    forge.closed = True
    write_model(repository, "fraud", text_of(split="v3: 70, v4: 30"))
    done = run(repository, forge)
    assert (done.returncode, "::warning title=canary-router::the plan is not posted" in done.stdout) == (0, True)
    assert "secret" not in done.stdout + done.stderr
    assert "20% v3 → v4" in (repository.parent / "summary").read_text()


@pytest.mark.needs("git")
def test_what_cannot_be_compared_fails(repository: Path, forge: Forge) -> None:
    done = run(repository, forge, INPUT_AGAINST="nosuch")
    assert done.returncode == 1
    assert "::error title=canary-router plan::error: there is no commit 'nosuch'" in done.stdout
    assert forge.comments == []


def test_the_action_puts_no_input_into_a_script() -> None:
    action = yaml.safe_load((ROOT / "deploy" / "ci" / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert action["runs"]["using"] == "composite"
    assert all("${{" not in step["run"] and step["shell"] == "bash" for step in steps)
    asked = set(re.findall(r"[\"'](INPUT_[A-Z]+|PULL_REQUEST)[\"']", SCRIPT.read_text()))
    assert asked == set(steps[1]["env"])
    assert {f"INPUT_{name.upper()}" for name in action["inputs"]} | {"PULL_REQUEST"} == asked
    for path in re.findall(r"\$GITHUB_ACTION_PATH/([^\"]+)", "".join(step["run"] for step in steps)):
        assert (ROOT / "deploy" / "ci" / path).exists(), path
    for step in steps:
        subprocess.run(["bash", "-n", "-c", step["run"]], check=True, timeout=20)


def test_the_hooks_name_commands_that_exist() -> None:
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        program, command = shlex.split(hook["entry"])
        assert (program, hook["language"]) == ("canary-router", "python")
        assert command in COMMANDS
        assert re.search(hook["files"], "config/models/fraud.yaml")
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", command, "--help"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert all(argument in done.stdout for argument in hook["args"] if argument.startswith("-"))


def test_what_init_writes_names_this_action_and_these_hooks() -> None:
    from router.cli.scaffold import example_files

    files = example_files().files
    uses = yaml.safe_load(files[".github/workflows/canary-router.yml"])["jobs"]["plan"]["steps"][1]["uses"]
    assert uses.startswith("canary-router/canary-router/deploy/ci@")
    hooks = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (repository,) = yaml.safe_load(files[".pre-commit-config.yaml"])["repos"]
    assert {hook["id"] for hook in repository["hooks"]} <= hooks


def test_every_line_of_the_codeowners_example_has_an_owner() -> None:
    lines = (ROOT / "deploy" / "ci" / "CODEOWNERS.example").read_text().splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert rules
    assert all(pattern.startswith("/") and owner.startswith("@") for pattern, owner in rules)
