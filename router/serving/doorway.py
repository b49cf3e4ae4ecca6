"""A listening Unix socket that appears under its name only when it is opened.

Rules:
1. It is bound and listening under a name of its own, then renamed into place: nobody meets a half-ready one, and one
   that a killed predecessor left behind is replaced.
2. At the end the name is removed if it is still ours.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from router.errors import OperatorError

_BACKLOG = 1024
_LONGEST_PATH = 107
_PLACE = "the directory must be writable, and the path under 108 bytes"


class Doorway:
    """A socket that listens already, and is reachable at `path` after `open`; readable by this user alone."""

    def __init__(self, path: Path) -> None:
        """Raises OperatorError: the path is too long for a socket, or its directory cannot be written."""
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise OperatorError(f"cannot listen on {path}: the path is too long for a socket", hint=_PLACE)
        self._path = path
        self._draft = path.with_name(f".{os.getpid()}")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._draft.unlink(missing_ok=True)
            self.socket.bind(str(self._draft))
            self._draft.chmod(0o600)
            self.socket.listen(_BACKLOG)
            self._ours = self._draft.stat().st_ino
        except OSError as fault:
            self.socket.close()
            raise _refused(path, fault) from fault

    def open(self) -> None:
        """From now on it is found under its name. Raises OperatorError."""
        try:
            self._draft.rename(self._path)
        except OSError as fault:
            raise _refused(self._path, fault) from fault

    def close(self) -> None:
        """Ends this process's hold of the socket, and its name."""
        self.socket.close()
        for name in (self._draft, self._path):
            with suppress(FileNotFoundError):
                if name.stat().st_ino == self._ours:
                    name.unlink()


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens on `path` while the block runs. Raises OperatorError as `Doorway` does."""
    doorway = Doorway(path)
    try:
        doorway.open()
        yield doorway.socket
    finally:
        doorway.close()


def _refused(path: Path, fault: OSError) -> OperatorError:
    return OperatorError(f"cannot listen on {path}: {fault.strerror or fault}", hint=_PLACE)
