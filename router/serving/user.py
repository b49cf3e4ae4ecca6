"""Where the router runs as root: a user for the model's code, who can read its model and nothing of the router's.

Rules:
1. A user id of its own for each model's directory, from the range that no account has.
2. It may read the model's files, and write to its scratch directory alone.
3. Where it could not even read the libraries, because the router is installed in a closed directory, the model runs as
   the router does, and the log says so at every start.
4. In any case: no new privileges, no core dumps, which would hold clients' rows.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import resource
import stat
import sys
from pathlib import Path

import router

_log = logging.getLogger(__name__)
# What systemd gives to dynamic users: no distribution hands it out otherwise.
FIRST, LAST = 61184, 65519
_NO_NEW_PRIVILEGES = 38


def user_for(directory: Path) -> int | None:
    """The user (and group) id for the model in `directory`; None where this process cannot become another user."""
    if os.geteuid() != 0:
        return None
    closed = next((path for path in (*_libraries(), directory.parent) if not passable(path)), None)
    if closed is not None:
        _log.warning("the model's code runs as root: %s is closed to other users", closed)
        return None
    number = int.from_bytes(hashlib.sha256(os.fsencode(directory)).digest()[:4], "big")
    return FIRST + number % (LAST + 1 - FIRST)


def _libraries() -> tuple[Path, ...]:
    return Path(sys.prefix), Path(sys.base_prefix), Path(router.__file__).resolve().parent


def passable(path: Path) -> bool:
    """Whether any user may pass through `path` and all that it lies in."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


def prepare(user: int, model: Path, scratch: Path) -> None:
    """Makes `model` readable for `user`, and `scratch` its own. Links are left alone."""
    os.chown(scratch, user, user)
    for folder, _, names in os.walk(model):
        _open(Path(folder), user, 0o750)
        for name in names:
            _open(Path(folder, name), user, 0o640)


def _open(path: Path, group: int, mode: int) -> None:
    if not path.is_symlink():
        os.chown(path, -1, group)
        path.chmod(mode)


def become(user: int | None) -> None:
    """From now on this process is `user`, for ever; None: it stays who it is."""
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
