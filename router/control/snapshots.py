"""The snapshot on disk: workers start from it while control is away, and so does control itself.

Rules:
1. The file is replaced in one step; a reader sees the one before or the one after.
2. It holds credentials: only the owner may read it.
3. A file that cannot be read or written costs a slower start and nothing else.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from router.core.wire import SnapshotUpdate, read_snapshot

log = logging.getLogger(__name__)


def write(path: Path, frame: bytes) -> None:
    """Puts `frame` into the file. Blocking."""
    temporary = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(frame)
        temporary.replace(path)
    except OSError as error:
        log.warning("cannot write %s: %s", path, error)


def read(path: Path) -> SnapshotUpdate | None:
    """The whole snapshot in the file, or None where there is none. Blocking."""
    try:
        return read_snapshot(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("cannot use %s: %s", path, error)
        return None
