"""The SQLite store: what was good, pinned and admitted."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.store import sqlite
from router.store.base import LastGood, Store
from router.store.sqlite import SqliteStore

DAY = 86_400.0


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


class Calendar(SystemClock):
    """Stands still at `day`."""

    day = 0.0

    def wall(self) -> float:
        return self.day * DAY


def test_what_no_config_names_any_more_goes_after_a_while(path: Path) -> None:
    clock = Calendar()
    store = SqliteStore(path, clock)
    for name in ("named", "dropped", "back"):
        store.save_pin(name, "{}")
        store.admit(name, "fraud", "v3", clock.wall())

    def keep(day: float, *names: str) -> int:
        return store.keep_named(names, names, day * DAY, 30 * DAY)

    assert keep(1, "named", "dropped", "back", "never kept") == 0
    assert keep(20, "named") == 0
    assert keep(29, "named", "back") == 0
    assert keep(32, "named") == 2
    assert set(store.pins()) == store.admitted() == {"named", "back"}
    assert keep(5, "named", "back") == 0
    assert keep(10_000, "named", "back") == 0
    assert set(store.pins()) == store.admitted() == {"named", "back"}
    store.close()
