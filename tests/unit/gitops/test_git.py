"""Running git so that it can do no harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.errors import OperatorError
from router.gitops import git as module
from router.gitops.git import Git, GitError, GitMissingError, check_remote, environment, without_credentials
from tests.support.configs import new_repository

pytestmark = pytest.mark.needs("git")


@pytest.mark.parametrize(
    "url",
    ["https://git.example/a/b.git", "ssh://git@git.example/a", "git@git.example:a/b", "file:///srv/a", "/srv/a.git"],
)
def test_remotes_that_may_be_read(url: str) -> None:
    assert check_remote(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id", "ext::id", "--upload-pack=id", "-x", "http://git.example/a", "git://git.example/a", "fd::17",
        "a/b", "", "https://u:secret@git.example/a", "https://token@git.example/a", "ssh://u:secret@h/a", "ssh://-oX/a",
        "git@-oProxyCommand=id:a", "/a\nb", "ftp://h/a",
    ],
)  # fmt: skip
def test_remotes_that_may_not(url: str) -> None:
    with pytest.raises(OperatorError) as caught:
        check_remote(url)
    assert "secret" not in str(caught.value)
    assert "token@" not in str(caught.value)


def test_complaints_are_told_without_credentials(tmp_path: Path) -> None:
    assert without_credentials("fatal: 'https://u:secret@h/a' is gone") == "fatal: 'https://h/a' is gone"
    with pytest.raises(GitError, match=r"^git rev-parse failed: fatal: not a git repository"):
        Git(tmp_path).read("rev-parse", "--show-prefix")


def test_reading_reaches_no_remote(tmp_path: Path) -> None:
    new_repository(tmp_path / "a")
    with pytest.raises(GitError, match=r"transport 'file' not allowed"):
        Git(tmp_path / "a").read("ls-remote", f"file://{tmp_path / 'a'}")
    assert b"refs/heads/main" in Git(tmp_path / "a").fetch("ls-remote", f"file://{tmp_path / 'a'}")
    with pytest.raises(GitError, match=r"transport 'ext' not allowed"):
        Git(tmp_path / "a").fetch("ls-remote", f"ext::touch {tmp_path / 'ran'}")
    assert not (tmp_path / "ran").exists()


def test_git_hears_nothing_of_our_secrets() -> None:
    heard = environment({"PATH": "/bin", "CANARY_ROUTER_TOKEN": "secret", "GIT_DIR": "/x", "HOME": "/h"}, "https")
    assert "CANARY_ROUTER_TOKEN" not in heard
    assert "GIT_DIR" not in heard
    assert (heard["HOME"], heard["GIT_ALLOW_PROTOCOL"], heard["GIT_TERMINAL_PROMPT"]) == ("/h", "https", "0")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a git of our own first on PATH."""
    (folder / "bin").mkdir()
    (folder / "bin" / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_a_git_that_hangs_dies_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(GitError, match=r"took longer than 0\.5 s"):
        Git(tmp_path).fetch("fetch", timeout=0.5)
    helper = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{helper}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_output_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OUTPUT", 1000)
    program(tmp_path, monkeypatch, "exec cat /dev/zero")
    with pytest.raises(GitError, match="prints more than"):
        Git(tmp_path).read("log")


def test_a_missing_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitMissingError, match="there is no git program"):
        Git(tmp_path).read("log")
