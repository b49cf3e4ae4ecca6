"""Tests of router.serving.doorway: the socket that appears only when it is ready."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from router.errors import OperatorError
from router.serving.doorway import listening


def connects(path: Path) -> bool:
    """Whether somebody listens on `path`."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_it_listens_when_it_appears_and_is_for_this_user_alone(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        assert connects(tmp_path / "s")
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert not connects(tmp_path / "s")
    with listening(tmp_path / "s"):
        assert connects(tmp_path / "s")


def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    with listening(tmp_path / "s"):
        (tmp_path / "s").unlink()
        (tmp_path / "s").write_text("somebody else's")
    assert (tmp_path / "s").exists()


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot listen") as refused, listening(tmp_path / ("x" * 108)):
        pass
    assert "108 bytes" in refused.value.hint
