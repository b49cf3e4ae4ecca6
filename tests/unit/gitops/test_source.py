"""Following a branch, whatever becomes of the remote. The remotes are real bare repositories."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.errors import OperatorError
from router.gitops.git import GitError
from router.gitops.revision import Revision, UnsignedError, pull_request_of
from router.gitops.source import RewrittenError, Source, remote_of
from tests.support.configs import commit, git, new_repository, write_model

pytestmark = pytest.mark.needs("git")


class Pair:
    """A working repository, the bare one it pushes to, and a source that follows that."""

    def __init__(self, folder: Path) -> None:
        self.work = new_repository(folder / "work", fraud="one")
        self.bare = folder / "bare.git"
        git(folder, "clone", "--quiet", "--bare", str(self.work), str(self.bare))
        git(self.work, "remote", "add", "origin", str(self.bare))
        self.mirror = folder / "state" / "git"
        self.mirror.parent.mkdir()
        self.source = Source(remote_of(f"file://{self.bare}"), self.mirror)

    def push(self, text: str, subject: str = "change", *options: str) -> str:
        """Commits another fraud.yaml and pushes it."""
        write_model(self.work, "fraud", text)
        made = commit(self.work, subject, *options)
        git(self.work, "push", "--quiet", "--force", "origin", "HEAD:main")
        return made

    def text(self) -> bytes:
        """What the branch has now, taken."""
        checkout = self.source.poll()
        self.source.take(checkout)
        return self.source.read(checkout, ("models/fraud.yaml",))["models/fraud.yaml"]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Pair(tmp_path)


def spoil(repository: Path) -> None:
    """Writes rubbish over every object."""
    for path in (repository / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"rubbish")


def test_the_branch_is_followed(pair: Pair) -> None:
    assert pair.text() == b"one"
    for text in ("two", "three"):
        pair.push(text)
        assert pair.text() == text.encode()


def test_a_commit_tells_who_made_it_and_what_it_says(pair: Pair) -> None:
    made = pair.push("two", "Raise v4 to 10% (#42)")
    assert pair.source.poll().revision == Revision(
        made, "Ada <ada@example.com>", "Grace <grace@example.com>", 1767323046, "Raise v4 to 10% (#42)", 42
    )


@pytest.mark.parametrize(
    ("subject", "body", "number"),
    [
        ("Merge pull request #7 from ada/raise", "", 7),
        ("Raise v4 (#12)", "", 12),
        ("Merged in raise (pull request #3)", "", 3),
        ("Merge branch 'raise' into 'main'", "Raise\n\nSee merge request risk/configs!99", 99),
        ("Fix #5 somehow", "", 0),
        ("Raise (#1234567890)", "", 0),
    ],
)
def test_a_merge_names_its_pull_request(subject: str, body: str, number: int) -> None:
    assert pull_request_of(subject, body) == number


def test_a_checkout_stays_what_it_was(pair: Pair) -> None:
    before = pair.source.poll()
    pair.push("two")
    pair.source.poll()
    assert pair.source.read(before, ("models/fraud.yaml",)) == {"models/fraud.yaml": b"one"}


def test_the_first_fetch_is_shallow_and_later_ones_bring_what_came_since(pair: Pair) -> None:
    pair.push("two")
    pair.text()
    assert git(pair.mirror, "rev-list", "--count", "refs/canary-router/head") == "1"
    pair.push("three")
    pair.push("four")
    assert pair.text() == b"four"
    assert git(pair.mirror, "rev-list", "--count", "refs/canary-router/head") == "3"


def test_a_rewritten_branch_is_refused_until_it_is_mended_or_accepted(pair: Pair) -> None:
    taken = pair.push("two")
    assert pair.text() == b"two"
    git(pair.work, "reset", "--quiet", "--hard", "HEAD^")
    pair.push("other", "rewritten")
    with pytest.raises(RewrittenError, match="was rewritten"):
        pair.source.poll()
    assert pair.source.taken() == taken
    git(pair.work, "merge", "--quiet", "--strategy=ours", "--message=mended", taken)
    git(pair.work, "push", "--quiet", "origin", "HEAD:main")
    assert pair.text() == b"other"
    git(pair.work, "reset", "--quiet", "--hard", taken)
    pair.push("again", "rewritten again")
    with pytest.raises(RewrittenError) as caught:
        pair.source.poll()
    remembered = pair.mirror.with_name("git.taken")
    assert str(remembered) in caught.value.hint
    remembered.unlink()
    assert pair.text() == b"again"


def test_what_was_taken_survives_a_restart_without_the_remote(pair: Pair) -> None:
    pair.text()
    shutil.rmtree(pair.bare)
    again = Source(pair.source.remote, pair.mirror)
    with pytest.raises(GitError):
        again.poll()
    last = again.last()
    assert last is not None
    assert again.read(last, ("models/fraud.yaml",)) == {"models/fraud.yaml": b"one"}


def test_nothing_was_taken_yet(pair: Pair) -> None:
    assert (pair.source.taken(), pair.source.last()) == ("", None)
    pair.mirror.with_name("git.taken").write_text("rubbish")
    assert pair.source.taken() == ""
    pair.mirror.with_name("git.taken").write_text("1" * 40)
    assert pair.source.last() is None


def test_a_vanished_branch_is_told(pair: Pair) -> None:
    gone = Source(remote_of(f"file://{pair.bare}", "nosuch"), pair.mirror)
    with pytest.raises(GitError, match="couldn't find remote ref"):
        gone.poll()


@pytest.mark.parametrize("damage", ["objects", "HEAD", "ref"])
def test_a_damaged_mirror_is_made_anew(pair: Pair, damage: str) -> None:
    pair.text()
    if damage == "objects":
        spoil(pair.mirror)
    elif damage == "HEAD":
        (pair.mirror / "HEAD").unlink()
    else:
        (pair.mirror / "refs" / "canary-router" / "head").write_text("rubbish\n")
    assert pair.text() == b"one"
    pair.push("two")
    assert pair.text() == b"two"


def test_damage_that_only_reading_finds_is_mended_at_the_next_poll(pair: Pair) -> None:
    checkout = pair.source.poll()
    spoil(pair.mirror)
    with pytest.raises(GitError):
        pair.source.read(checkout, ("models/fraud.yaml",))
    assert pair.text() == b"one"


def test_a_corrupted_remote_is_told_and_the_mirror_stays(pair: Pair) -> None:
    pair.text()
    pair.push("two")
    spoil(pair.bare)
    with pytest.raises(GitError):
        pair.source.poll()
    last = pair.source.last()
    assert last is not None
    assert pair.source.read(last, ("models/fraud.yaml",)) == {"models/fraud.yaml": b"one"}


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_remote_that_hangs_is_given_up(pair: Pair, silent: int) -> None:
    hung = Source(remote_of(f"https://127.0.0.1:{silent}/a.git"), pair.mirror, timeout=0.7)
    with pytest.raises(GitError, match=r"took longer than 0\.7 s"):
        hung.poll()


def test_the_remotes_hooks_and_submodules_are_left_alone(pair: Pair, tmp_path: Path) -> None:
    (pair.work / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {tmp_path}/ran\n')
    git(pair.work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
    git(pair.work, "add", ".gitmodules")
    git(pair.work, "commit", "--quiet", "--message=submodule")
    git(pair.work, "push", "--quiet", "origin", "HEAD:main")
    (pair.bare / "hooks").mkdir(exist_ok=True)
    for name in ("post-upload-pack", "reference-transaction", "pre-auto-gc"):
        (pair.bare / "hooks" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (pair.bare / "hooks" / name).chmod(0o755)
    assert pair.text() == b"one"
    assert not (tmp_path / "ran").exists()


def test_the_mirror_has_no_hooks(pair: Pair) -> None:
    pair.text()
    assert not (pair.mirror / "hooks").exists()


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "refs/heads/x.lock", "", "a//b", "+main:main", "x/"])
def test_a_branch_is_a_name(branch: str) -> None:
    with pytest.raises(OperatorError, match="is no branch"):
        remote_of("/srv/a", branch)


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../b", "a//b", ".git", "a\nb"])
def test_a_path_stays_inside(path: str) -> None:
    with pytest.raises(OperatorError, match="is no folder"):
        remote_of("/srv/a", path=path)


def test_the_root_may_be_the_folder() -> None:
    assert [remote_of("/srv/a", path=path).prefix for path in ("", ".", "config/", "a/b")] == [
        "",
        "",
        "config/",
        "a/b/",
    ]


@pytest.mark.needs("ssh-keygen")
class TestSigned:
    """With `require_signed`, by SSH keys."""

    @pytest.fixture
    def signers(self, pair: Pair, tmp_path: Path) -> Path:
        for name in ("ada", "eve"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
            subprocess.run(command, check=True, timeout=20)
        allowed = tmp_path / "allowed_signers"
        allowed.write_text(f"ada@example.com {(tmp_path / 'ada.pub').read_text()}")
        git(pair.work, "config", "gpg.format", "ssh")
        pair.source = Source(remote_of(f"file://{pair.bare}", signed=True, signers=allowed), pair.mirror)
        return allowed

    def test_a_trusted_signature_is_told(self, pair: Pair, signers: Path) -> None:
        pair.push("two", "signed", f"--gpg-sign={signers.with_name('ada')}")
        assert pair.source.poll().revision.signer == "ada@example.com"

    def test_no_signature_is_refused(self, pair: Pair, signers: Path) -> None:
        with pytest.raises(UnsignedError, match="is not signed"):
            pair.source.poll()

    def test_somebody_elses_signature_is_refused(self, pair: Pair, signers: Path) -> None:
        pair.push("two", "signed", f"--gpg-sign={signers.with_name('eve')}")
        with pytest.raises(UnsignedError, match="is not signed by a key that is trusted here"):
            pair.source.poll()
