"""The facts of one commit, for status and audit: who made it, what it says, and who vouches for it.

Rules:
1. What a commit says of itself is a claim: only a signature that git calls good, by a key trusted here, vouches.
2. Text of a commit is kept short and printable, wherever it will be shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from router.config.problems import printable
from router.gitops.git import Git, GitError
from router.gitops.tree import checked_commit

_LONGEST = 300
_FIELDS = ("%H", "%an <%ae>", "%cn <%ce>", "%ct", "%s")
_PULL_REQUEST = (
    re.compile(r"^Merge pull request #(\d{1,9}) from "),
    re.compile(r"\(#(\d{1,9})\)$"),
    re.compile(r"\(pull request #(\d{1,9})\)"),
)
_MERGE_REQUEST = re.compile(r"^See merge request \S*!(\d{1,9})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit. `author` and `committer` are `Name <address>`; `committed_at` wall-clock seconds.

    `pull_request` is the number that the merge names, 0 where it names none; `signer` whose good and trusted signature
    it bears, empty where that was not asked for.
    """

    commit: str
    author: str
    committer: str
    committed_at: int
    subject: str
    pull_request: int = 0
    signer: str = ""

    @property
    def short(self) -> str:
        """The commit's id as people write it."""
        return self.commit[:12]


class UnsignedError(GitError):
    """A commit bears no signature that is good and trusted."""


def revision_of(git: Git, commit: str) -> Revision:
    """What `commit` says of itself. Raises GitError where it cannot be read."""
    said = _log(git, commit, "%x00".join((*_FIELDS, "%b"))).split("\0", len(_FIELDS))
    if len(said) != len(_FIELDS) + 1 or said[0] != commit or not said[3].isdigit():
        raise GitError(f"commit {commit[:12]} cannot be read")
    _, author, committer, at, subject, body = said
    return Revision(commit, _short(author), _short(committer), int(at), _short(subject), pull_request_of(subject, body))


def signer_of(git: Git, commit: str, allowed_signers: Path | None) -> str:
    """Who signed `commit`: the key's owner as git tells it.

    Args:
        git: the repository.
        commit: its id.
        allowed_signers: who may sign with which SSH key, as ssh-keygen reads it; None for OpenPGP keys of this user's
            keyring that are trusted there.

    Raises:
        UnsignedError: there is no signature, or it is not good, or nobody's that is trusted.
    """
    settings = (
        ["-c", "gpg.format=openpgp", "-c", "gpg.minTrustLevel=fully"]
        if allowed_signers is None
        else ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed_signers}"]
    )
    verdict, _, signer = _log(git, commit, "%G?%x00%GS", *settings).partition("\0")
    if verdict != "G":
        why = {"N": "is not signed", "B": "has a bad signature", "X": "has an expired signature",
               "Y": "is signed with an expired key", "R": "is signed with a revoked key"}  # fmt: skip
        raise UnsignedError(f"commit {commit[:12]} {why.get(verdict, 'is not signed by a key that is trusted here')}")
    return _short(signer.strip())


def pull_request_of(subject: str, body: str) -> int:
    """The number of the pull request that a merge's message names; 0 where it names none."""
    found = next((match for pattern in _PULL_REQUEST if (match := pattern.search(subject))), None)
    found = found or _MERGE_REQUEST.search(body)
    return int(found[1]) if found else 0


def _log(git: Git, commit: str, form: str, *settings: str) -> str:
    arguments = (
        "log",
        "--max-count=1",
        "--no-show-signature",
        "--no-color",
        f"--format={form}",
        checked_commit(commit),
    )
    return git.read(*settings, *arguments, "--").decode("utf-8", "replace").removesuffix("\n")


def _short(text: str) -> str:
    return printable(text)[:_LONGEST]
