"""A file system of its own that can be filled, emptied and made read-only.

Rules:
1. Mounted under the test's directory and unmounted at its end, whatever happened.
2. Where this user may not mount, the test is skipped and says why; where CI=true it fails, because there nothing may
   go untested.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = "2m"
_CHUNK = 4096


class SmallDisk:
    """A mounted file system of `SIZE` bytes at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leaves no room at all."""
        with self._filler.open("ab", buffering=0) as filler:
            for chunk in (_CHUNK, 1):
                try:
                    while True:
                        filler.write(b"x" * chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def empty(self) -> None:
        """Gives back what `fill` took."""
        self._filler.unlink()

    def read_only(self) -> None:
        """Lets nobody write, not even root."""
        _run("mount", "-o", "remount,ro", str(self.path))

    def writable(self) -> None:
        """Undoes `read_only`."""
        _run("mount", "-o", "remount,rw", str(self.path))


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """A small disk at `path`, which is made; skips or fails the test by rule 2."""
    path.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"needs to mount a file system of its own, which this user may not ({_told(error)}); root may"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: a process that the test killed may hold a file for a moment longer.
        _run("umount", "--lazy", str(path))


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin") or program
    subprocess.run([found, *arguments], check=True, capture_output=True, text=True, timeout=20)


def _told(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return str(error.stderr).partition("\n")[0].rpartition(": ")[2]
    return str(error)
