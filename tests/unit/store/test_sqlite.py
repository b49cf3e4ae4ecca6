"""The SQLite store: what it keeps, and what it does when its disk does not."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.store import sqlite
from router.store.base import LastGood, Store, StoreError
from router.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / sqlite.FILE_NAME


def store_at(path: Path) -> SqliteStore:
    return SqliteStore(path, SystemClock())


def test_what_is_saved_is_there_after_opening_anew(path: Path) -> None:
    store: Store = store_at(path)
    store.save_last_good("fraud", "model: fraud\n# ü\n", "d1", 10.5)
    store.save_pin("models:/fraud@best", '{"resolved": "models:/fraud/3"}')
    store.admit("sha", "fraud", "v3", 11.0)
    store.close()
    again = store_at(path)
    assert again.last_good("fraud") == LastGood("model: fraud\n# ü\n", "d1", 10.5)
    assert again.last_goods() == {"fraud": LastGood("model: fraud\n# ü\n", "d1", 10.5)}
    assert again.pins() == {"models:/fraud@best": '{"resolved": "models:/fraud/3"}'}
    assert again.admitted() == {"sha"}
    again.close()


def test_a_later_value_replaces_the_one_before_and_a_first_admission_stays(path: Path) -> None:
    store = store_at(path)
    for turn in (1.0, 2.0):
        store.save_last_good("fraud", f"text {turn}", f"d{turn}", turn)
        store.save_pin("uri", f"{turn}")
        store.admit("sha", "fraud", f"v{turn}", turn)
    assert store.last_good("fraud") == LastGood("text 2.0", "d2.0", 2.0)
    assert store.pins() == {"uri": "2.0"}
    store.close()
    rows = sqlite3.connect(path).execute("SELECT version, admitted_at FROM admission").fetchall()
    assert rows == [("v1.0", 1.0)]


def test_a_forgotten_model_has_no_last_good_config(path: Path) -> None:
    store = store_at(path)
    store.save_last_good("fraud", "text", "d", 1.0)
    store.forget("fraud")
    store.forget("never-known")
    assert store.last_good("fraud") is None
    store.close()


def test_calls_from_many_threads_take_turns(path: Path) -> None:
    store = store_at(path)

    def admit_twenty(first: int) -> None:
        for number in range(first, first + 20):
            store.admit(f"digest {number}", "m", "v", 0.0)

    threads = [threading.Thread(target=admit_twenty, args=(first,)) for first in (0, 20, 40, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.admitted()) == 80
    store.close()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_an_unsound_file_is_moved_aside_and_serving_goes_on(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    store = store_at(path)
    with caplog.at_level(logging.ERROR):
        assert store.last_goods() == {}
    store.save_pin("uri", "{}")
    assert store.pins() == {"uri": "{}"}
    store.close()
    (aside,) = (entry for entry in path.parent.iterdir() if ".unsound-" in entry.name)
    assert aside.read_bytes() == content
    assert str(path) in caplog.text
    assert aside.name in caplog.text


def test_damage_met_while_open_costs_one_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "PRAGMA cache_size = 1"))
    store = store_at(path)
    for number in range(400):
        store.save_pin(f"uri {number}", "x" * 500)
    store.close()
    store.admitted()
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=sqlite.FILE_NAME):
        store.pins()
    assert store.pins() == {}
    store.close()


def test_a_full_disk_is_an_error_that_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "PRAGMA max_page_count = 12"))
    store = store_at(path)
    store.save_pin("before", "{}")
    with pytest.raises(StoreError, match="full") as raised:
        store.save_last_good("fraud", "x" * 200_000, "d", 1.0)
    assert "make room" in str(raised.value)
    assert store.last_good("fraud") is None
    store.save_pin("after", "{}")
    assert set(store.pins()) == {"before", "after"}
    store.close()


def test_a_read_only_database_is_read_and_refuses_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable = store_at(path)
    writable.save_pin("before", "{}")
    writable.close()
    monkeypatch.setattr(sqlite, "PRAGMAS", (*sqlite.PRAGMAS, "PRAGMA query_only = ON"))
    store = store_at(path)
    with pytest.raises(StoreError, match="readonly"):
        store.save_pin("after", "{}")
    assert set(store.pins()) == {"before"}
    store.close()


def test_a_missing_directory_is_an_error_until_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "later" / sqlite.FILE_NAME
    store = store_at(path)
    with pytest.raises(StoreError, match="later") as raised:
        store.last_goods()
    assert "directory must exist" in str(raised.value)
    path.parent.mkdir()
    assert store.last_goods() == {}
    store.close()


def test_a_database_of_a_newer_release_is_refused_and_left_alone(path: Path) -> None:
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="schema 99"):
        store_at(path).pins()
    assert [entry.name for entry in path.parent.iterdir() if ".unsound-" in entry.name] == []
