"""The file under the store: what it does when the disk, or somebody, does not leave it alone."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.store import sqlite_file
from router.store.audit import AuditEntry
from router.store.base import StoreDamaged, StoreError, StoreFull
from router.store.sqlite import FILE_NAME, SqliteStore

ENTRY = AuditEntry(time=1.0, actor="alice", action="rollback", model="fraud")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = store_at(path)
    yield store
    store.close()


def store_at(path: Path) -> SqliteStore:
    return SqliteStore(path, SystemClock())


def names_in(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def test_a_new_database_is_there_whole_and_for_its_user_alone(path: Path, store: SqliteStore) -> None:
    assert not path.exists()
    assert store.admitted() == set()
    assert path.stat().st_mode & 0o777 == 0o600
    store.close()
    assert names_in(path) == {FILE_NAME}


def test_what_a_killed_first_start_left_is_no_hindrance(path: Path, store: SqliteStore) -> None:
    path.with_name(f".{FILE_NAME}.new").write_bytes(b"half of something")
    store.save_pin("uri", "{}")
    store.close()
    assert names_in(path) == {FILE_NAME}


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, store: SqliteStore, content: bytes) -> None:
    path.write_bytes(content)
    for call in (store.last_goods, store.rollouts, lambda: store.append_audit(ENTRY), store.verify):
        with pytest.raises(StoreDamaged, match=FILE_NAME) as raised:
            call()
        assert "restore" in raised.value.hint
    assert path.read_bytes() == content
    assert names_in(path) == {FILE_NAME}


def test_moving_a_damaged_file_away_begins_anew(path: Path, store: SqliteStore) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreDamaged):
        store.pins()
    path.rename(path.with_name("damaged"))
    store.save_pin("uri", "{}")
    assert store.pins() == {"uri": "{}"}


def test_damage_met_while_open_is_refused_from_then_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "PRAGMAS", (*sqlite_file.PRAGMAS, "PRAGMA cache_size = 1"))
    store = store_at(path)
    for number in range(400):
        store.save_pin(f"uri {number}", "x" * 500)
    store.close()
    store.admitted()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=FILE_NAME):
            store.pins()
    path.write_bytes(whole)
    assert len(store.pins()) == 400
    store.close()


def test_a_full_disk_is_an_error_that_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(path)
    store.save_pin("before", "{}")
    store.close()
    monkeypatch.setattr(sqlite_file, "PRAGMAS", (*sqlite_file.PRAGMAS, "PRAGMA max_page_count = 1"))
    with pytest.raises(StoreFull, match="full") as raised:
        store.save_last_good("fraud", "x" * 200_000, "d", 1.0)
    assert "make room" in str(raised.value)
    assert store.last_good("fraud") is None
    assert set(store.pins()) == {"before"}
    store.close()


def test_a_database_that_may_not_be_written_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable = store_at(path)
    writable.save_pin("before", "{}")
    writable.close()
    monkeypatch.setattr(sqlite_file, "PRAGMAS", (*sqlite_file.PRAGMAS, "PRAGMA query_only = ON"))
    store = store_at(path)
    with pytest.raises(StoreFull, match="readonly"):
        store.save_pin("after", "{}")
    assert set(store.pins()) == {"before"}
    store.close()


def test_a_missing_directory_is_an_error_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "later" / FILE_NAME
    store = store_at(path)
    with pytest.raises(StoreError, match="later") as raised:
        store.last_goods()
    assert "directory must exist" in str(raised.value)
    path.parent.mkdir()
    assert store.last_goods() == {}
    store.close()


def test_a_database_of_a_newer_release_is_refused_and_left_alone(path: Path, store: SqliteStore) -> None:
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="schema 99"):
        store.pins()
    assert path.read_bytes() == before


def test_a_database_that_somebody_else_holds_is_an_error_until_they_let_go(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.05)
    store.save_pin("before", "{}")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked") as raised:
            store.append_audit(ENTRY)
        assert "another process" in raised.value.hint
        assert set(store.pins()) == {"before"}
        other.execute("COMMIT")
    assert store.append_audit(ENTRY).sequence == 1


def test_a_writer_who_waits_gets_its_turn(path: Path, store: SqliteStore) -> None:
    store.save_pin("before", "{}")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    writing = threading.Thread(target=store.append_audit, args=(ENTRY,))
    writing.start()
    other.execute("COMMIT")
    writing.join(10)
    other.close()
    assert store.audit_head().sequence == 1


def test_another_database_in_the_place_of_the_first_is_refused_until_it_is_back(
    path: Path, store: SqliteStore, tmp_path: Path
) -> None:
    store.append_audit(ENTRY)
    aside = path.with_name("aside")
    path.rename(aside)
    for _ in range(2):
        with pytest.raises(StoreError, match="moved away or replaced"):
            store.append_audit(ENTRY)
    (tmp_path / "other").mkdir()
    another = store_at(tmp_path / "other" / FILE_NAME)
    another.append_audit(ENTRY)
    another.close()
    (tmp_path / "other" / FILE_NAME).rename(path)
    with pytest.raises(StoreError, match="moved away or replaced"):
        store.audit_head()
    aside.replace(path)
    assert store.append_audit(ENTRY).sequence == 2


def test_also_a_closed_store_stays_with_its_database(path: Path, store: SqliteStore) -> None:
    store.append_audit(ENTRY)
    store.close()
    path.rename(path.with_name("aside"))
    with pytest.raises(StoreError, match="moved away"):
        store.rollouts()
    assert not path.exists()


def test_reading_as_it_stands_sees_what_a_running_router_wrote_last(path: Path, store: SqliteStore) -> None:
    store.append_audit(ENTRY)
    with closing(sqlite_file.open_as_it_stands(path)) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)


def test_reading_as_it_stands_leaves_nothing_beside_a_database_at_rest(path: Path, store: SqliteStore) -> None:
    store.append_audit(ENTRY)
    store.close()
    with closing(sqlite_file.open_as_it_stands(path)) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (1,)
        assert names_in(path) == {FILE_NAME}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM pin")


def test_an_older_schema_is_not_read_as_it_stands(path: Path) -> None:
    older = sqlite3.connect(path)
    older.execute("PRAGMA user_version = 1")
    older.close()
    with pytest.raises(StoreError, match="start the router on it once"):
        sqlite_file.open_as_it_stands(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_file_system_that_refuses_says_so_as_the_database_does(path: Path, number: int) -> None:
    with pytest.raises(StoreFull, match=FILE_NAME) as raised, sqlite_file.told(path):
        raise OSError(number, os.strerror(number))
    assert raised.value.hint
