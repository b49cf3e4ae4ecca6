"""The config files of one commit.

Rules:
1. Everything is read at one commit, by the ids of its objects: a commit that comes meanwhile is another tree.
2. Regular files only. Symbolic links and submodules are refused where they stand, whatever they point to; nothing is
   ever written to a working folder.
3. Sizes are known before anything is read: a file that is too large is refused unread.
4. A name is only ever compared and looked up; odd ones are told escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from router.config.problems import printable, quote
from router.config.yaml import MAX_BYTES
from router.errors import InternalError, OperatorError
from router.gitops.git import Git, GitError

MOST_FILES = 20_000
REGIONS = "regions.yaml"
_MODELS = "models/"
_ROW = re.compile(rb"(\d{6}) (blob|tree|commit) ([0-9a-f]{40,64}) +(-|\d+)\t(.+)", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that is not read: its path inside the folder of configs, and why."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one commit that matter: `models/*.yaml` and regions.yaml, path to object id."""

    commit: str
    files: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()


def commit_of(git: Git, revision: str) -> str:
    """The full id of the commit that `revision` (a branch, a tag, an id, `HEAD~1`) means now.

    Raises:
        OperatorError: there is none.
    """
    try:
        found = git.read("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except GitError as error:
        raise OperatorError(
            f"there is no commit {quote(revision)} in the repository of {git.repository}",
            hint="fetch it first: `git fetch origin main`; in CI, check out with the whole history (fetch-depth: 0)",
        ) from error
    return checked_commit(found.decode("ascii", "replace").strip())


def checked_commit(text: str) -> str:
    """`text`, which must be the id of a commit."""
    if not _COMMIT.fullmatch(text):
        raise InternalError(f"{quote(text)} is no commit")
    return text


def prefix_of(git: Git) -> str:
    """Where in its repository the folder lies that `git` runs in: empty, or with a '/' at its end.

    Raises:
        OperatorError: it is in no repository.
    """
    try:
        return git.read("rev-parse", "--show-prefix").decode("utf-8", "surrogateescape").removesuffix("\n")
    except GitError as error:
        raise OperatorError(
            f"{git.repository} is not in a git repository: {error.message}",
            hint="name a folder of configs to compare with: --against DIR",
        ) from error


def list_files(git: Git, commit: str, prefix: str) -> Listing:
    """What the commit has under `prefix` (empty, or with a '/' at its end).

    Raises:
        GitError: it cannot be read, or holds more than `MOST_FILES` entries there.
    """
    paths = [f"{prefix}{_MODELS}", f"{prefix}{REGIONS}"]
    printed = git.read("ls-tree", "-z", "--long", "--full-tree", checked_commit(commit), "--", *paths)
    rows = printed.split(b"\0")[:-1]
    if len(rows) > MOST_FILES:
        raise GitError(f"commit {commit[:12]} holds more than {MOST_FILES} files in {prefix}{_MODELS}")
    files: dict[str, str] = {}
    refused: list[Refused] = []
    for row in rows:
        match = _ROW.fullmatch(row)
        if match is None:
            raise GitError(
                f"commit {commit[:12]} cannot be read: git lists {printable(row.decode(errors='replace'))[:80]}"
            )
        mode, kind, found, size = (part.decode() for part in match.groups()[:4])
        path = match[5].decode("utf-8", "surrogateescape").removeprefix(prefix)
        name = path.removeprefix(_MODELS)
        if name.startswith("."):
            continue
        if problem := _refusal(name, mode, kind, size):
            refused.append(Refused(path, problem))
        elif name.endswith(".yaml"):
            files[path] = found
    return Listing(commit, files, tuple(refused))


def read_blobs(git: Git, objects: Iterable[str]) -> dict[str, bytes]:
    """The contents of `objects`, by id, read in one go.

    Raises:
        GitError: one of them is missing or damaged.
    """
    wanted = list(dict.fromkeys(objects))
    if not wanted:
        return {}
    printed = git.read("cat-file", "--batch", stdin="".join(f"{each}\n" for each in wanted).encode())
    found: dict[str, bytes] = {}
    at = 0
    for each in wanted:
        end = printed.find(b"\n", at)
        head = printed[at:end].decode("ascii", "replace").split(" ")
        if end < 0 or head[:2] != [each, "blob"] or not head[-1].isdigit():
            raise GitError(f"object {each[:12]} cannot be read: {printable(' '.join(head))[:80]}")
        start, size = end + 1, int(head[2])
        found[each] = printed[start : start + size]
        at = start + size + 1
    return found


def _refusal(name: str, mode: str, kind: str, size: str) -> str:
    """Why an entry is not read; empty where it may be."""
    if mode == "120000":
        return "is a symbolic link; write the file itself, links are not followed in git" if _is_config(name) else ""
    if kind == "commit":
        return "is a submodule, and those are not read"
    if kind == "tree":
        return "is a folder; models lie directly in models/, one file for each"
    if name.lower().endswith((".yml", ".yaml")) and not name.endswith(".yaml"):
        return "the ending must be '.yaml'"
    if _is_config(name) and int(size) > MAX_BYTES:
        return f"has {size} bytes; a config is a page of text, at most 1MiB"
    return ""


def _is_config(name: str) -> bool:
    return name.lower().endswith((".yml", ".yaml"))
