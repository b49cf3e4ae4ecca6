"""The store on real disks that are full or read-only, and under SIGKILL at any moment."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.store.audit import AuditEntry
from router.store.base import Kind, Put, StoreError, StoreFull
from router.store.sqlite import FILE_NAME, SqliteStore
from tests.support.small_disk import SmallDisk, small_disk

ROOT = Path(__file__).parents[2]
ENTRY = AuditEntry(time=1.0, actor="alice", action="rollback", model="fraud", version="v4")
LARGE = b"x" * 300_000
NOBODY = 65534
WRITER = """
import os, sys
from pathlib import Path
from router.clock import SystemClock
from router.store.sqlite import SqliteStore
SqliteStore(Path(sys.argv[1]), SystemClock()).put_rollout("fraud", "v4", b"latched", 0)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def store_on(disk: SmallDisk) -> SqliteStore:
    return SqliteStore(disk.path / FILE_NAME, SystemClock())


def refused(store: SqliteStore) -> None:
    """An intent too large for what room there may be is refused whole, and everything can be read as it was."""
    states, head = store.rollouts(), store.audit_head()
    with pytest.raises(StoreFull) as raised:
        store.commit_intent(ENTRY, [Put(Kind.EVIDENCE, "fraud", "v4", LARGE, 0)])
    assert raised.value.hint
    assert (store.rollouts(), store.audit_head(), store.evidences()) == (states, head, {})
    assert store.verify() == []


def accepted(store: SqliteStore) -> None:
    head = store.audit_head()
    intent = store.commit_intent(ENTRY, [Put(Kind.EVIDENCE, "fraud", "v4", LARGE, 0)])
    assert intent.record.sequence == head.sequence + 1
    assert store.verify(head) == []
    store.close()


@pytest.mark.needs("mount")
def test_a_disk_that_fills_refuses_changes_until_there_is_room(disk: SmallDisk) -> None:
    store = store_on(disk)
    store.commit_intent(ENTRY, [Put(Kind.ROLLOUT, "fraud", "v4", b"latched", 0)])
    disk.fill()
    refused(store)
    refused(store)
    disk.empty()
    accepted(store)


@pytest.mark.needs("mount")
def test_a_store_that_starts_on_a_full_disk_knows_its_rollbacks(disk: SmallDisk) -> None:
    before = store_on(disk)
    before.commit_intent(ENTRY, [Put(Kind.ROLLOUT, "fraud", "v4", b"latched", 0)])
    before.close()
    disk.fill()
    store = store_on(disk)
    assert store.rollouts()["fraud", "v4"].value == b"latched"
    refused(store)
    assert store_on(disk).rollouts()["fraud", "v4"].value == b"latched"
    disk.empty()
    accepted(store)


@pytest.mark.needs("mount")
def test_a_first_start_on_a_full_disk_goes_on_when_there_is_room(disk: SmallDisk) -> None:
    disk.fill()
    store = store_on(disk)
    for _ in range(2):
        with pytest.raises(StoreFull):
            store.rollouts()
    disk.empty()
    accepted(store)


@pytest.mark.needs("mount")
def test_a_file_system_that_turns_read_only_is_read_and_used_again_later(disk: SmallDisk) -> None:
    before = store_on(disk)
    before.commit_intent(ENTRY, [Put(Kind.ROLLOUT, "fraud", "v4", b"latched", 0)])
    before.close()
    disk.read_only()
    store = store_on(disk)
    assert store.rollouts()["fraud", "v4"].value == b"latched"
    refused(store)
    disk.writable()
    accepted(store)


@pytest.mark.needs("mount")
@pytest.mark.parametrize("full", [True, False], ids=["full", "read-only"])
def test_what_a_killed_router_wrote_last_is_known_even_where_nothing_can_be_written(
    disk: SmallDisk, full: bool
) -> None:
    killed = subprocess.run([sys.executable, "-c", WRITER, str(disk.path / FILE_NAME)], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert (disk.path / f"{FILE_NAME}-wal").stat().st_size > 0
    if full:
        disk.fill()
    else:
        disk.read_only()
    store = store_on(disk)
    assert store.rollouts()["fraud", "v4"].value == b"latched"
    refused(store)
    if full:
        disk.empty()
    else:
        disk.writable()
    accepted(store)


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / FILE_NAME, SystemClock())
    store.commit_intent(ENTRY, [Put(Kind.ROLLOUT, "fraud", "v4", b"latched", 0)])
    with largest_file(200_000):
        refused(store)
    accepted(store)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_read_only_file_is_read_and_refuses_changes() -> None:
    with tempfile.TemporaryDirectory() as made, ordinary_user(Path(made)) as directory:
        path = directory / FILE_NAME
        before = SqliteStore(path, SystemClock())
        before.put_rollout("fraud", "v4", b"latched", 0)
        before.close()
        path.chmod(0o400)
        store = SqliteStore(path, SystemClock())
        refused(store)
        path.chmod(0o600)
        accepted(store)


@contextmanager
def ordinary_user(directory: Path) -> Iterator[Path]:
    """A folder in `directory`, as a user whom a file's mode binds: for root it never does."""
    own = directory / "own"
    own.mkdir()
    user = os.geteuid()
    if user != 0:
        yield own
        return
    directory.chmod(0o755)
    os.chown(own, NOBODY, -1)
    os.seteuid(NOBODY)
    try:
        yield own
    finally:
        os.seteuid(user)


def test_a_directory_that_is_lost_is_an_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state" / FILE_NAME, SystemClock())
    (tmp_path / "state").mkdir()
    store.append_audit(ENTRY)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(StoreError, match="moved away"):
        store.append_audit(ENTRY)


def test_sigkill_at_any_moment_leaves_whole_intents_and_a_whole_chain(tmp_path: Path) -> None:
    seed = 20261123
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.store_crasher", str(tmp_path), "150", str(seed)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["last"] > 150
