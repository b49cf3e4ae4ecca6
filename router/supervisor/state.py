"""The state directory: one router each, and what the children and the command line find in it.

Rules:
1. The directory is locked for as long as the router lives; the kernel lets go of the lock however it dies.
2. Files are written whole or not at all; what holds secrets is readable by the router's user alone.
3. Where the router is root, a model's code runs as another user, who passes through to its files and its socket and
   reads nothing else: what is in the directory is closed to others, the way there is open to pass.
4. The run directory is emptied at the start. Where the state directory's path is too long for a Unix socket, it is a
   temporary one, found again through `serving.json` and removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_RUN = 80
"""Bytes a run directory's path may have: a Unix socket's path ends at 107, and names need some of them."""

RUN_PREFIX = "canary-router-"


class StateDirectory:
    """A locked state directory.

    `left_over` tells whether the router before died without cleaning up; `run` is the run directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._serving = self.path / "serving.json"
        with _explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take_lock()
            with _explained(self.path):
                self.left_over = self._serving.exists()
                self._clear_before()
                self.run = self._make_run()
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            raise OperatorError(
                f"another router (pid {holder or 'unknown'}) runs on the state directory {self.path}",
                hint="stop that one, or give this one a directory of its own with --state",
            ) from error
        with _explained(self.path):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _clear_before(self) -> None:
        run = self.path / "run"
        if run.is_symlink() or run.is_file():
            run.unlink()
        elif run.exists():
            shutil.rmtree(run)
        temporary = _temporary_run(self._serving)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        self._serving.unlink(missing_ok=True)

    def _make_run(self) -> Path:
        run = self.path / "run"
        if len(os.fsencode(run)) > LONGEST_RUN:
            run = Path(tempfile.mkdtemp(prefix=RUN_PREFIX))
        else:
            run.mkdir(mode=0o700)
        (run / "pyfunc").mkdir(mode=0o700)
        return run

    def let_models_pass(self) -> None:
        """Rule 3. Raises OperatorError: the directory cannot be changed."""
        with _explained(self.path):
            self._close_to_others()

    def _close_to_others(self) -> None:
        models, environments = self.path / "models", self.path / "environments"
        for folder in (models, environments):
            folder.mkdir(exist_ok=True)
        for entry in self.path.iterdir():
            if not entry.is_symlink():
                entry.chmod(0o700 if entry.is_dir() else 0o600)
        for passage in (self.path, models, environments, self.run, self.run / "pyfunc"):
            passage.chmod(0o711)

    def write(self, path: Path, text: str) -> None:
        """Writes `text` to `path` whole, readable by this user alone.

        Raises:
            OperatorError: it cannot be written.
        """
        with _explained(self.path):
            write_private(path, text)

    def publish(self, facts: Mapping[str, object]) -> None:
        """Writes `serving.json`: where the router really listens."""
        self.write(self._serving, json.dumps({**facts, "run": str(self.run)}, indent=2) + "\n")

    def close(self) -> None:
        """Removes what only a running router needs, and lets go of the lock."""
        with suppress(OSError):
            self._serving.unlink(missing_ok=True)
        shutil.rmtree(self.run, ignore_errors=True)
        os.close(self._lock)


def write_private(path: Path, text: str) -> None:
    """Writes `text` to `path` by renaming a finished file of mode 0600 to it.

    Raises:
        OSError: it cannot be written; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary_run(serving: Path) -> Path | None:
    """The temporary run directory that a router before left behind, if it is one of ours."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        run = Path(json.loads(serving.read_text(encoding="utf-8"))["run"])
        ours = run.parent == Path(tempfile.gettempdir()) and run.name.startswith(RUN_PREFIX)
        if ours and not run.is_symlink() and run.stat().st_uid == os.getuid():
            return run
    return None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into an error that says how to mend it."""
    try:
        yield
    except OSError as error:
        raise OperatorError(
            f"the state directory {path} cannot be used: {error.strerror or error} ({error.filename or path})",
            hint="make it a directory that this user may write to, with room on its disk, or name another with --state",
        ) from error
