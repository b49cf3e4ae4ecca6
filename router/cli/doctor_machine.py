"""What `doctor` finds on the machine itself: the state directory, the clock, the limits.

Rules:
1. What is tried in the state directory leaves nothing behind; a directory that does not exist yet is not made.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import tempfile
from pathlib import Path

from router.cli.findings import Finding
from router.clock import SystemClock
from router.supervisor.addresses import BACKLOG

ENOUGH_FILES = 16_384
FEWEST_FILES = 1_024
ENOUGH_BYTES = 1 << 30
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "lustre"}
_NEWER_THAN = 1_767_225_600.0
_UNSYNCHRONISED = 5
_TIMEX_BYTES = 512


def running_router(state: Path, locks: Path = Path("/proc/locks")) -> int:
    """The pid of the router that holds the lock of `state`; 0 where there is none.

    The kernel is asked who holds it: trying to take it could keep a router from starting.
    """
    try:
        lock = (state / "lock").stat()
        lines = locks.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    held = [
        fields[4] for line in lines if len(fields := line.split()) > 5 and fields[1] == "FLOCK" and fields[5] == place
    ]
    return int(held[0]) if held else 0


def state_directory(state: Path, running: int) -> Finding:
    """Whether the router can keep its state in `state`."""
    here = next(path for path in (state, *state.parents) if path.exists())
    remedy = "name another with --state, or make it a directory that this user may write to"
    try:
        with tempfile.NamedTemporaryFile(dir=here):
            free = shutil.disk_usage(here).free
    except OSError as error:
        return Finding("state", "failed", f"{here} cannot be written to: {error.strerror or error}", remedy)
    kind = filesystem_of(here)
    if kind in _REMOTE:
        return Finding("state", "warning", f"{here} is on {kind}, where SQLite's locks cannot be relied on",
                       "name a directory on a local disk with --state")  # fmt: skip
    if free < ENOUGH_BYTES:
        return Finding("state", "warning", f"{here} has {free >> 20} MiB left; fetched models are kept there",
                       "make room, or name a directory on a larger disk with --state")  # fmt: skip
    used = f"; a router runs on it (pid {running})" if running else ""
    return Finding("state", "ok", f"{here} can be written to, {free >> 30} GiB free{used}")


def filesystem_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that `path` lies on; empty where that cannot be found out."""
    real = str(path.resolve())
    best, kind = "", ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def clock() -> Finding:
    """Whether the clock is right, as far as the machine knows."""
    now = SystemClock().wall()
    remedy = "let the machine keep time by NTP: timedatectl set-ntp true, or chrony"
    if now < _NEWER_THAN:
        return Finding(
            "clock", "failed", "it is before 2026 here: certificates and audit entries would be wrong", remedy
        )
    if clock_state() == _UNSYNCHRONISED:
        return Finding("clock", "warning", "the kernel says that nobody keeps the clock in time", remedy)
    return Finding("clock", "ok", "nothing speaks against it")


def clock_state() -> int:
    """What adjtimex(2) says of the clock: 0 well, 5 not synchronised, -1 where it may not be asked."""
    try:
        # All of struct timex zeroed asks and sets nothing; it is smaller than this.
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return -1


def limits() -> list[Finding]:
    """Whether there may be enough connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [open_files(soft, hard), _backlog()]


def open_files(soft: int, hard: int) -> Finding:
    """Whether `soft` open files are enough; each request under way takes two."""
    found = f"{'unlimited' if soft == resource.RLIM_INFINITY else soft} open files for each process"
    if soft == resource.RLIM_INFINITY or soft >= ENOUGH_FILES:
        return Finding("open files", "ok", found)
    remedy = f"ulimit -n {ENOUGH_FILES} before `serve`; under systemd LimitNOFILE={ENOUGH_FILES}"
    if hard != resource.RLIM_INFINITY and hard < ENOUGH_FILES:
        remedy += f"; the hard limit is {hard}, which root raises in /etc/security/limits.conf"
    return Finding("open files", "failed" if soft < FEWEST_FILES else "warning",
                   f"{found}: about {soft // 2} requests at a time", remedy)  # fmt: skip


def _backlog() -> Finding:
    try:
        most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        return Finding("backlog", "skipped", "the kernel does not tell")
    if most >= BACKLOG:
        return Finding("backlog", "ok", f"{most} connections may wait")
    return Finding("backlog", "warning", f"{most} connections may wait to be accepted, fewer than {BACKLOG}",
                   f"sysctl -w net.core.somaxconn={BACKLOG}")  # fmt: skip
