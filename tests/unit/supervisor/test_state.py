"""The state directory: locked, private, and cleared of what a router before left behind."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from router.errors import OperatorError
from router.supervisor.state import RUN_PREFIX, StateDirectory, write_private


def test_a_directory_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "state")
    with pytest.raises(OperatorError, match=rf"another router \(pid {os.getpid()}\)"):
        StateDirectory(tmp_path / "state")
    first.close()
    StateDirectory(tmp_path / "state").close()


def test_the_run_directory_is_empty_and_private(tmp_path: Path) -> None:
    (tmp_path / "run" / "pyfunc").mkdir(parents=True)
    (tmp_path / "run" / "workers.sock").touch()
    state = StateDirectory(tmp_path)
    assert state.run == tmp_path / "run"
    assert [entry.name for entry in state.run.iterdir()] == ["pyfunc"]
    assert stat.S_IMODE(state.run.stat().st_mode) == 0o700
    state.close()
    assert not state.run.exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_poses_as_the_run_directory_is_replaced_and_not_followed(tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    state = tmp_path / "state"
    state.mkdir()
    if kind == "link":
        (state / "run").symlink_to(elsewhere)
    else:
        (state / "run").touch()
    StateDirectory(state).close()
    assert (elsewhere / "precious").exists()


def test_only_a_run_directory_of_ours_is_removed(tmp_path: Path) -> None:
    precious = tmp_path / f"{RUN_PREFIX}precious"
    precious.mkdir()
    state = tmp_path / "state"
    state.mkdir()
    (state / "serving.json").write_text(json.dumps({"run": str(precious)}))
    opened = StateDirectory(state)
    assert opened.left_over
    opened.close()
    assert precious.exists()


def test_a_left_over_temporary_run_directory_is_removed(tmp_path: Path) -> None:
    left = Path(tempfile.mkdtemp(prefix=RUN_PREFIX))
    (tmp_path / "serving.json").write_text(json.dumps({"run": str(left)}))
    StateDirectory(tmp_path).close()
    assert not left.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}', "\udcff"])
def test_a_broken_serving_json_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "serving.json").write_text(text, errors="surrogateescape")
    StateDirectory(tmp_path).close()
    assert not (tmp_path / "serving.json").exists()


def test_what_is_published_is_private_and_names_the_run_directory(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.publish({"pid": 7})
    assert json.loads((tmp_path / "serving.json").read_text()) == {"pid": 7, "run": str(tmp_path / "run")}
    assert stat.S_IMODE((tmp_path / "serving.json").stat().st_mode) == 0o600
    with pytest.raises(OperatorError, match="cannot be used: No such file"):
        state.write(tmp_path / "missing" / "file", "")
    state.close()


def test_a_failed_write_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\udcff")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_others_pass_through_and_read_nothing(tmp_path: Path) -> None:
    (tmp_path / "s" / "git").mkdir(parents=True, mode=0o755)
    (tmp_path / "s" / "canary-router.db").write_text("old, and open")
    state = StateDirectory(tmp_path / "s")
    state.let_models_pass()
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in (state.path, *state.path.iterdir())}
    state.close()
    assert modes == {
        "s": 0o711, "canary-router.db": 0o600, "git": 0o700, "lock": 0o600, "models": 0o711, "run": 0o711,
        "environments": 0o711,
    }  # fmt: skip
