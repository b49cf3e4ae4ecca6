"""The command line as a whole: exit codes, messages, and what listing commands imports."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from router.cli import main
from router.errors import InternalError, OperatorError, RouterError

HEAVY = ("mlflow", "pydantic", "httpx", "fastapi", "starlette", "uvicorn", "yaml", "rich", "msgspec")


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from router.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for name, lazy in main.COMMANDS.items():
        assert f"{name} " in done.stdout
        assert lazy.summary.split()[0] in done.stdout


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_every_command_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert f"Usage: canary-router {name}" in capsys.readouterr().out


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("canary-router 0.")


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["--no-such-option"], ["status", "-o", "xml"], ["status", "a", "b"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    assert "Usage:" in capsys.readouterr().err


def failing(error: BaseException) -> click.Command:
    """A command that raises `error`."""

    @click.command()
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperatorError("the door is shut", hint="open it"), "error: the door is shut\n  open it\n"),
        (InternalError("two and two are five"), "error: two and two are five\n  this is a bug in the router; please"),
        (KeyboardInterrupt(), "interrupted\n"),
    ],
)
def test_failures_are_told_without_a_traceback(
    error: BaseException, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: failing(error))
    assert main.run(["anything"]) == 1
    printed = capsys.readouterr().err
    assert told in printed
    assert "Traceback" not in printed


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main.run(["anything"])


def test_a_commands_exit_code_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: failing(click.exceptions.Exit(3)))
    assert main.run(["anything"]) == 3


def test_every_error_of_the_router_has_a_message() -> None:
    assert str(RouterError("only this")) == "only this"
