"""A branch of a remote repository as a source of configs: fetched into a bare repository of our own.

Rules:
1. What was taken last is remembered beside the mirror: a restart goes on with it, whatever the remote does.
2. A commit is offered only if it was fetched whole, comes after the one taken last, and is signed where that is
   required. Otherwise what was taken last stays, and the reason is told.
3. A branch that was rewritten is refused until it holds the commit taken last again, or an operator removes the file
   that remembers it: what was deployed and recorded does not vanish from its history in silence.
4. A damaged mirror is made anew: it holds nothing that the remote does not have.
5. Blocking: call it in a thread, one call at a time. Every call is bounded in time.
"""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from router.config.problems import quote
from router.errors import OperatorError, RouterError
from router.gitops.git import FETCH_SECONDS, Git, GitError, check_remote
from router.gitops.revision import Revision, UnsignedError, revision_of, signer_of
from router.gitops.tree import Listing, checked_commit, list_files, read_blobs

log = logging.getLogger(__name__)

_HEAD = "refs/canary-router/head"
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")


@dataclass(frozen=True, slots=True)
class Remote:
    """Which configs: `path` is the folder that holds models/, from the repository's root; empty for the root itself.

    With `require_signed` commits count only if signed: with an SSH key that the file `allowed_signers` lists, or by an
    OpenPGP key that is trusted in this user's keyring.
    """

    url: str
    branch: str = "main"
    path: str = "config"
    require_signed: bool = False
    allowed_signers: Path | None = None

    @property
    def prefix(self) -> str:
        """`path` as the beginning of paths in a commit."""
        return f"{self.path}/" if self.path else ""


def remote_of(
    url: str, branch: str = "main", path: str = "config", *, signed: bool = False, signers: Path | None = None
) -> Remote:
    """A remote, checked.

    Raises:
        OperatorError: one of the parts may not be.
    """
    check_remote(url)
    if not _BRANCH.fullmatch(branch) or ".." in branch or branch.endswith((".lock", "/", ".")) or "//" in branch:
        raise OperatorError(f"{quote(branch)} is no branch", hint="write its name alone, such as main")
    parts = [] if path in {"", "."} else path.strip("/").split("/")
    if path.startswith("/") or not all(parts) or {".", "..", ".git"} & set(parts) or not path.isprintable():
        raise OperatorError(
            f"{quote(path)} is no folder of a repository", hint="write it from the root, such as config"
        )
    return Remote(url, branch, "/".join(parts), signed, signers)


@dataclass(frozen=True, slots=True)
class Checkout:
    """One commit: its facts, and which files it has."""

    revision: Revision
    listing: Listing


class RewrittenError(GitError):
    """The branch no longer holds the commit that was taken last."""


class Source:
    """Follows `remote` by the bare repository in folder `mirror`, which nobody else writes to.

    Args:
        remote: what to follow.
        mirror: the folder; made where it does not exist. Its parent must.
        timeout: of one fetch, in seconds.
    """

    def __init__(self, remote: Remote, mirror: Path, *, timeout: float = FETCH_SECONDS) -> None:
        self.remote = remote
        self._mirror = mirror
        self._taken_file = mirror.with_name(f"{mirror.name}.taken")
        self._timeout = timeout
        self._git = Git(mirror)

    def taken(self) -> str:
        """The commit taken last; empty where there is none."""
        try:
            text = self._taken_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return text if re.fullmatch(r"[0-9a-f]{40,64}", text) else ""

    def last(self) -> Checkout | None:
        """The commit taken last, as the mirror holds it; None where there is none (rule 1)."""
        commit = self.taken()
        if not commit:
            return None
        try:
            return self._checkout(commit)
        except RouterError as error:
            log.warning("the commit taken last, %s, cannot be read from %s: %s", commit[:12], self._mirror, error)
            return None

    def poll(self) -> Checkout:
        """The branch as it is now.

        Raises:
            GitError: the remote or the mirror cannot be read, the branch was rewritten, or the commit is not signed as
                is required.
        """
        try:
            return self._poll()
        except (RewrittenError, UnsignedError):
            raise
        except GitError as error:
            if not self._drop_damaged(error):
                raise
            return self._poll()

    def _poll(self) -> Checkout:
        self._prepare()
        self._fetch()
        commit = self._resolve()
        self._check_follows(commit)
        return self._checkout(commit)

    def read(self, checkout: Checkout, paths: tuple[str, ...]) -> dict[str, bytes]:
        """The contents of `paths` of `checkout`, all of them. Raises GitError where one cannot be read."""
        files = checkout.listing.files
        try:
            blobs = read_blobs(self._git, [files[path] for path in paths])
        except GitError as error:
            self._drop_damaged(error)
            raise
        return {path: blobs[files[path]] for path in paths}

    def take(self, checkout: Checkout) -> None:
        """Remembers `checkout` as the one taken last. Where that cannot be written, a warning says so."""
        commit = checkout.revision.commit
        if commit == self.taken():
            return
        temporary = self._taken_file.with_suffix(".new")
        try:
            temporary.write_text(f"{commit}\n", encoding="ascii")
            temporary.replace(self._taken_file)
        except OSError as error:
            log.warning("cannot remember in %s which commit was taken: %s", self._taken_file, error)

    def _prepare(self) -> None:
        if not (self._mirror / "HEAD").is_file():
            shutil.rmtree(self._mirror, ignore_errors=True)
            Git(self._mirror.parent).read("init", "--quiet", "--bare", "--template=", "--", str(self._mirror))

    def _fetch(self) -> None:
        """A first time with as little history as will do, later what came since the commit taken last."""
        shallow = [] if self.taken() else ["--depth=1"]
        self._git.fetch(
            "fetch", "--quiet", "--force", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            *shallow, "--", self.remote.url, f"+refs/heads/{self.remote.branch}:{_HEAD}", timeout=self._timeout,
        )  # fmt: skip

    def _drop_damaged(self, error: GitError) -> bool:
        """Whether it was the mirror, and not the remote, that was at fault; then it is gone (rule 4)."""
        try:
            self._git.read("fsck", "--no-progress", "--no-dangling", "--no-reflogs")
        except GitError:
            log.warning("the mirror %s is damaged (%s); it is made anew", self._mirror, error.message)
            shutil.rmtree(self._mirror, ignore_errors=True)
            return True
        return False

    def _resolve(self) -> str:
        found = self._git.read("rev-parse", "--verify", "--end-of-options", f"{_HEAD}^{{commit}}")
        return checked_commit(found.decode("ascii", "replace").strip())

    def _check_follows(self, commit: str) -> None:
        """Rule 3."""
        taken = self.taken()
        if not taken or taken == commit:
            return
        try:
            self._git.read("merge-base", "--is-ancestor", taken, commit)
        except GitError as error:
            raise RewrittenError(
                f"branch {self.remote.branch} was rewritten: {commit[:12]} does not come after {taken[:12]}, which is "
                "in force",
                hint=f"push {taken[:12]} back under it; or, to accept what is there, remove {self._taken_file}",
            ) from error

    def _checkout(self, commit: str) -> Checkout:
        revision = revision_of(self._git, commit)
        if self.remote.require_signed:
            signer = signer_of(self._git, commit, self.remote.allowed_signers)
            revision = replace(revision, signer=signer)
        return Checkout(revision, list_files(self._git, commit, self.remote.prefix))
