"""Decisions in SQLite: one wins, all or nothing, and the trail is only ever added to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.store import schema
from router.store.audit import AuditEntry, Finding, Head, Row, findings
from router.store.base import Kind, Ledger, Put, StoreConflict, StoreError
from router.store.sqlite import FILE_NAME, SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    store = SqliteStore(path, SystemClock())
    yield store
    store.close()


def entry(number: int = 0, model: str = "fraud") -> AuditEntry:
    return AuditEntry(time=float(number), actor="alice", action="rollback", model=model, reason=f"reason {number}")


def test_of_many_who_change_the_same_revision_one_wins(ledger: Ledger) -> None:
    revision = ledger.put_rollout("fraud", "v4", b"start", 0)
    won: list[int] = []

    def change(number: int) -> None:
        try:
            ledger.commit_intent(entry(number), [Put(Kind.ROLLOUT, "fraud", "v4", str(number).encode(), revision)])
        except StoreConflict:
            return
        won.append(number)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert ledger.rollouts()["fraud", "v4"].value == str(won[0]).encode()
    assert [record.entry.reason for record in ledger.audit()] == [f"reason {won[0]}"]


def test_the_trail_goes_on_after_a_restart(path: Path, ledger: Ledger) -> None:
    noted = ledger.append_audit(entry(0))
    again = SqliteStore(path, SystemClock())
    record = again.append_audit(entry(1))
    assert record.previous == noted.hash
    assert again.verify() == []
    assert again.verify(Head(1, noted.hash)) == []
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET body = '{}' WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 3",
        "INSERT OR REPLACE INTO audit VALUES (2, 'fraud', '{}', '')",
        "INSERT INTO audit VALUES (99, 'fraud', '{}', '')",
        "UPDATE audit_head SET sequence = 1",
        "DELETE FROM audit_head",
    ],
)
def test_the_database_itself_refuses_to_change_the_trail(path: Path, ledger: Ledger, statement: str) -> None:
    for number in range(3):
        ledger.append_audit(entry(number))
    with closing(sqlite3.connect(path)) as by_hand, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        by_hand.execute(statement)
    assert ledger.verify() == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit SET body = replace(body, 'reason 1', 'reason 9')", "entry 2: altered"),
        ("UPDATE audit SET model = 'wine' WHERE sequence = 2", "entry 2: filed under"),
        ("DELETE FROM audit WHERE sequence = 2", "entry 2: missing"),
        ("DELETE FROM audit WHERE sequence = 3", "entry 3: missing"),
        ("DELETE FROM audit", "entry 1: missing, and all up to entry 3"),
        ("DELETE FROM audit_head", "entry 1: was not written by the router"),
        ("UPDATE audit SET sequence = 9 WHERE sequence = 2", "entry 2: missing"),
    ],
)
def test_who_gets_past_that_is_found(path: Path, ledger: Ledger, statement: str, found: str) -> None:
    for number in range(3):
        ledger.append_audit(entry(number))
    with_a_heavy_hand(path, statement)
    assert found in "\n".join(str(finding) for finding in ledger.verify())


def test_a_tail_cut_off_with_the_head_is_found_by_the_head_noted_elsewhere(path: Path, ledger: Ledger) -> None:
    for number in range(3):
        ledger.append_audit(entry(number))
    noted = ledger.audit_head()
    with_a_heavy_hand(
        path,
        "DELETE FROM audit WHERE sequence = 3",
        "UPDATE audit_head SET sequence = 2, hash = (SELECT hash FROM audit WHERE sequence = 2)",
    )
    assert ledger.verify() == []
    assert [finding.sequence for finding in ledger.verify(noted)] == [3]


def test_a_trail_that_was_cut_goes_on_and_still_tells(path: Path, ledger: Ledger) -> None:
    for number in range(3):
        ledger.append_audit(entry(number))
    with_a_heavy_hand(path, "DELETE FROM audit WHERE sequence = 3")
    assert ledger.append_audit(entry(3)).sequence == 4
    assert [str(finding) for finding in ledger.verify()] == ["entry 3: missing"]


def test_verifying_keeps_nobody_waiting(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        ledger.append_audit(entry(number))

    def meanwhile(rows: Iterable[Row], *, kept: Head, noted: Head | None) -> list[Finding]:
        ledger.append_audit(entry(9))
        return findings(rows, kept=kept, noted=noted)

    monkeypatch.setattr("router.store.sqlite_ledger.findings", meanwhile)
    assert ledger.verify() == []
    assert ledger.audit_head().sequence == 4


def test_a_database_of_the_first_release_keeps_what_it_holds(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as first:
        schema.migrate(first, schema.MIGRATIONS[:1])
        first.execute("INSERT INTO pin VALUES ('uri', '{}')")
        first.execute("INSERT INTO admission VALUES ('d', 'fraud', 'v3', 5.0)")
    store = SqliteStore(path, SystemClock())
    assert store.pins() == {"uri": "{}"}
    assert store.admitted() == {"d"}
    assert store.rollouts() == {}
    store.close()


def test_a_trail_altered_so_that_nothing_fits_refuses_to_go_on(path: Path, ledger: Ledger) -> None:
    ledger.append_audit(entry(0))
    ledger.append_audit(entry(1))
    with_a_heavy_hand(path, "UPDATE audit_head SET sequence = 1")
    with pytest.raises(StoreError) as raised:
        ledger.append_audit(entry(2))
    assert "history --verify" in raised.value.hint


def with_a_heavy_hand(path: Path, *statements: str) -> None:
    """Changes the database as somebody would who owns the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as by_hand:
        for (trigger,) in by_hand.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            by_hand.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            by_hand.execute(statement)


def test_bounds_beyond_all_numbers_find_nothing(ledger: Ledger) -> None:
    ledger.append_audit(entry())
    assert ledger.audit(after=10**30, limit=10**30) == ledger.audit(limit=-1) == []


def test_a_conflict_says_what_there_is(ledger: Ledger) -> None:
    ledger.put_rollout("fraud", "v4", b"one", 0)
    with pytest.raises(StoreConflict, match="the rollout of v4 of fraud is at revision 1, not 7"):
        ledger.put_rollout("fraud", "v4", b"two", 7)
