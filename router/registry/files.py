"""A model's directory on this machine: hashed, put in place whole, and recognised again.

Rules:
1. A directory appears under its name complete or not at all: it is filled under another name and renamed.
2. What was fetched is written beside it (`<name>.sha256.json`); a directory that no longer equals that is fetched
   again, one that was never fetched by the router is left alone and refused.
3. One at a time: a lock beside the directory keeps two children apart and falls with its holder.
4. Only regular files and directories: a link could lead anywhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from router.errors import OperatorError, UpstreamError
from router.registry.types import Fetched

_CHUNK = 1024 * 1024


def keep(directory: Path, fill: Callable[[Path], None], expected: str = "") -> Fetched:
    """Makes `directory` hold what `fill` writes into the (missing) directory it is handed.

    Idempotent: where an earlier call left it complete and untouched, `fill` is not called. `expected` is the digest
    that it has to have, empty for any.

    Raises:
        OperatorError: the directory exists and was not made by this function, or cannot be written; what was filled has
            another digest than expected.
        UpstreamError: what was filled is no model.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(_beside(directory, ".lock")):
        held = _held(directory)
        if held is not None and expected in ("", held.digest):
            return held
        part = _beside(directory, ".part")
        _remove(part)
        fill(part)
        _check_model(part)
        made = describe(part, at=directory)
        if expected not in ("", made.digest):
            _remove(part)
            raise OperatorError(
                f"its files are not those that were pinned: their SHA-256 is {made.digest}, and was {expected}",
                hint="somebody changed a version that was registered already; register the files as a version of their "
                "own, or take this one out of the config and put it back to accept them",
            )
        _put_in_place(part, directory, made)
        return made


def holds(directory: Path, digest: str) -> bool:
    """Whether `directory` holds exactly the files with that digest."""
    return directory.is_dir() and describe(directory).digest == digest


def describe(directory: Path, *, at: Path | None = None) -> Fetched:
    """The hashes of every file under `directory`, as if it were at `at`."""
    files = {path.relative_to(directory).as_posix(): sha256_of(path) for path in _regular_files(directory)}
    return Fetched(path=str(at or directory), sha256=files, digest=tree_digest(files))


def tree_digest(files: dict[str, str]) -> str:
    """One hex SHA-256 over all paths and their hashes, whatever their order."""
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(f"{files[path]}  {path}\n".encode())
    return whole.hexdigest()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of one file."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
    return whole.hexdigest()


def _held(directory: Path) -> Fetched | None:
    if not directory.exists():
        return None
    record = _beside(directory, ".sha256.json")
    if not record.exists():
        raise OperatorError(
            f"{directory} exists and was not fetched by the router", hint="move it away, or name another directory"
        )
    try:
        expected = msgspec.json.decode(record.read_bytes(), type=Fetched)
    except msgspec.DecodeError:
        return None
    found = describe(directory)
    return found if found.sha256 == expected.sha256 else None


def _put_in_place(part: Path, directory: Path, made: Fetched) -> None:
    old = _beside(directory, ".old")
    _remove(old)
    if directory.exists():
        directory.rename(old)
    record = _beside(directory, ".sha256.json")
    draft = _beside(directory, ".sha256.json.part")
    draft.write_bytes(msgspec.json.encode(made))
    draft.rename(record)
    part.rename(directory)
    _remove(old)


def _check_model(directory: Path) -> None:
    if not (directory / "MLmodel").is_file():
        raise UpstreamError(
            "what the registry holds is no model: there is no MLmodel file among its artifacts",
            hint="log the model again with MLflow's log_model, or name the artifacts that hold the MLmodel",
        )


def _regular_files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise OperatorError(
                f"{path} is neither a file nor a directory", hint="models may not hold links or devices"
            )
        if path.is_file():
            yield path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Rule 3, with the lock in the file `path`."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _beside(directory: Path, suffix: str) -> Path:
    return directory.with_name(directory.name + suffix)
