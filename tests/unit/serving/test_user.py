"""Tests of router.serving.user: what a model's code may read where the router is root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.serving import user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that other users may pass through: pytest's own are closed to them."""
    root = Path(tempfile.mkdtemp(prefix="canary-router-test-"))
    root.chmod(0o711)
    yield root
    shutil.rmtree(root)


def in_a_fork(work: Callable[[], bool]) -> bool:
    """What `work` says in a process of its own."""
    pid = os.fork()
    if not pid:
        said = 2
        try:
            said = 0 if work() else 1
        finally:
            os._exit(said)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def can_read(path: Path) -> bool:
    try:
        path.read_bytes()
    except PermissionError:
        return False
    return True


@as_root
def test_it_reads_its_model_and_nothing_else(state: Path) -> None:
    for name in ("mine", "others"):
        (state / name / "code").mkdir(parents=True)
        (state / name / "code" / "model.py").write_text("pass")
        (state / name).chmod(0o700)
    (state / "admin-token").write_text("secret")
    (state / "admin-token").chmod(0o600)
    scratch = state / "scratch"
    scratch.mkdir(mode=0o700)
    runs_as = 61200
    user.prepare(runs_as, state / "mine", scratch)
    (state / "mine" / "link").symlink_to(state / "admin-token")

    def work() -> bool:
        user.become(runs_as)
        (scratch / "written").write_text("by the model")
        closed = [state / "admin-token", state / "mine" / "link", state / "others" / "code" / "model.py"]
        return can_read(state / "mine" / "code" / "model.py") and not any(can_read(path) for path in closed)

    assert in_a_fork(work)
    assert (scratch / "written").stat().st_uid == runs_as


@as_root
def test_it_cannot_go_back(state: Path) -> None:
    def work() -> bool:
        user.become(61200)
        try:
            os.setuid(0)
        except PermissionError:
            return os.getuid() == os.geteuid() == 61200
        return False

    assert in_a_fork(work)


@as_root
def test_each_model_has_a_user_of_its_own(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user, "_libraries", lambda: (Path("/usr"),))
    ids = {user.user_for(state / name) for name in "abcdef"}
    assert len(ids) == 6
    assert all(each is not None and user.FIRST <= each <= user.LAST for each in ids)


@as_root
def test_closed_libraries_leave_it_as_it_is_and_say_so(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = state / "root"
    (closed / "python").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.setattr(user, "_libraries", lambda: (closed / "python",))
    assert user.user_for(state / "m") is None
    assert str(closed / "python") in caplog.text


def test_without_root_nothing_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user.user_for(tmp_path) is None
