"""Tests of router.cli.demo_stage, router.cli.guarded and router.cli.processes: nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from router.cli import demo_stage
from router.cli.demo_stage import free_ports, open_stage
from router.cli.processes import family_of
from router.errors import OperatorError, UpstreamError

SECONDS = 30.0
SLEEPER = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"
DEMO = """
import sys, time
from pathlib import Path
from router.cli.demo_stage import open_stage
with open_stage(Path(sys.argv[1])) as stage:
    stage.start("sleeper", [sys.executable, "-c", sys.argv[2]])
    time.sleep(600)
"""


def until(true: Callable[[], bool]) -> None:
    """Returns once it is true."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def up(root: Path) -> bool:
    """Whether the sleeper said that it is up."""
    log = root / "logs" / "sleeper.log"
    return log.exists() and "up" in log.read_text()


def test_everything_ends_with_the_stage(tmp_path: Path) -> None:
    others = family_of(os.getpid())
    with open_stage(tmp_path) as stage:
        stage.start("sleeper", [sys.executable, "-c", SLEEPER])
        until(lambda: up(tmp_path))
        family = family_of(os.getpid()) - others
        assert len(family) == 3
    until(lambda: not any(alive(pid) for pid in family))


def test_everything_ends_when_the_demo_is_killed_and_the_next_one_waits_for_that(tmp_path: Path) -> None:
    demo = subprocess.Popen([sys.executable, "-c", DEMO, str(tmp_path), SLEEPER])
    until(lambda: up(tmp_path))
    family = family_of(demo.pid) - {demo.pid}
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    with open_stage(tmp_path):
        assert not any(alive(pid) for pid in family)


def test_two_at_a_time_in_one_directory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stage, "_LAST_ONE_ENDS", 0.0)
    with (
        open_stage(tmp_path),
        pytest.raises(OperatorError, match="another demo runs in"),
        open_stage(tmp_path),
    ):
        pass


def test_a_process_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage, pytest.raises(UpstreamError, match="training failed with exit code 4") as told:
        stage.run("training", [sys.executable, "-c", "print('no data'); raise SystemExit(4)"], timeout=SECONDS)
    assert "no data" in told.value.hint


def test_a_process_that_ends_while_it_is_waited_for_is_noticed(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        stage.start("router", [sys.executable, "-c", "raise SystemExit(1)"])
        with pytest.raises(UpstreamError, match="router ended with exit code 1"):
            stage.wait_for("router", lambda: False, timeout=SECONDS)


def test_what_is_never_ready_is_given_up(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        stage.start("sleeper", [sys.executable, "-c", SLEEPER])
        with pytest.raises(UpstreamError, match="not ready within 0 s"):
            stage.wait_for("sleeper", lambda: False, timeout=0.2)


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage, pytest.raises(UpstreamError, match="took longer than 0 s"):
        stage.run("sleeper", [sys.executable, "-c", SLEEPER], timeout=0.2)


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="directory you may write to"), open_stage(tmp_path / "file" / "demo"):
        pass


def test_a_port_in_use_is_passed_over_and_no_port_is_given_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = free_ports([port, port, port])
    assert port not in found
    assert len(set(found)) == 3
