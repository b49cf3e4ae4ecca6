"""What every ledger promises: the one in SQLite, the one in memory that other tests use, and whichever comes next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.store.audit import GENESIS, AuditEntry, Head
from router.store.base import Kind, Ledger, Put, StoreConflict, Versioned
from router.store.sqlite import FILE_NAME, SqliteStore
from tests.unit.control.fakes import MemoryLedger


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    store = SqliteStore(tmp_path / FILE_NAME, SystemClock())
    yield store
    store.close()


def entry(number: int = 0, model: str = "fraud") -> AuditEntry:
    return AuditEntry(time=float(number), actor="alice", action="rollback", model=model, reason=f"reason {number}")


def test_a_state_is_put_read_replaced_and_deleted(ledger: Ledger) -> None:
    first = ledger.put_rollout("fraud", "v4", b"\0one", 0)
    assert ledger.rollouts() == {("fraud", "v4"): Versioned(b"\0one", first)}
    second = ledger.put_rollout("fraud", "v4", b"two", first)
    other = ledger.put_evidence("fraud", "v4", b"evidence", 0)
    assert ledger.rollouts() == {("fraud", "v4"): Versioned(b"two", second)}
    assert ledger.evidences() == {("fraud", "v4"): Versioned(b"evidence", other)}
    ledger.delete_rollout("fraud", "v4", second)
    ledger.delete_evidence("fraud", "v4", other)
    assert ledger.rollouts() == ledger.evidences() == {}


def test_who_comes_late_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    revision = ledger.put_rollout("fraud", "v4", b"one", 0)
    for wrong in (0, revision + 1, revision - 1):
        with pytest.raises(StoreConflict):
            ledger.put_rollout("fraud", "v4", b"two", wrong)
        with pytest.raises(StoreConflict):
            ledger.delete_rollout("fraud", "v4", wrong)
    with pytest.raises(StoreConflict):
        ledger.put_evidence("fraud", "v4", b"two", revision)
    assert ledger.rollouts() == {("fraud", "v4"): Versioned(b"one", revision)}
    assert ledger.evidences() == {}


def test_a_revision_never_comes_again(ledger: Ledger) -> None:
    first = ledger.put_rollout("fraud", "v4", b"one", 0)
    ledger.delete_rollout("fraud", "v4", first)
    assert ledger.put_rollout("fraud", "v4", b"one", 0) > first
    with pytest.raises(StoreConflict):
        ledger.put_rollout("fraud", "v4", b"two", first)


def test_an_intent_is_its_record_and_all_of_its_states(ledger: Ledger) -> None:
    evidence = ledger.put_evidence("fraud", "v4", b"old", 0)
    intent = ledger.commit_intent(
        entry(1),
        [
            Put(Kind.ROLLOUT, "fraud", "v4", b"rolled back", 0),
            Put(Kind.EVIDENCE, "fraud", "v4", None, evidence),
            Put(Kind.EVIDENCE, "fraud", "v5", b"new", 0),
        ],
    )
    assert intent.record.entry == entry(1)
    assert intent.record.sequence == 1
    assert ledger.rollouts() == {("fraud", "v4"): Versioned(b"rolled back", intent.revisions[0])}
    assert intent.revisions[1] == 0
    assert ledger.evidences() == {("fraud", "v5"): Versioned(b"new", intent.revisions[2])}
    assert ledger.audit() == [intent.record]


def test_an_intent_that_loses_leaves_neither_record_nor_state(ledger: Ledger) -> None:
    before = ledger.put_rollout("fraud", "v4", b"one", 0)
    with pytest.raises(StoreConflict):
        ledger.commit_intent(
            entry(),
            [Put(Kind.ROLLOUT, "fraud", "v4", b"two", before), Put(Kind.EVIDENCE, "fraud", "v4", b"x", 99)],
        )
    assert ledger.rollouts() == {("fraud", "v4"): Versioned(b"one", before)}
    assert ledger.audit() == []
    assert ledger.audit_head() == Head(0, GENESIS)


def test_the_trail_is_read_by_model_and_place(ledger: Ledger) -> None:
    records = [ledger.append_audit(entry(number, ("fraud", "wine")[number % 2])) for number in range(6)]
    assert ledger.audit() == records
    assert ledger.audit(after=4) == records[4:]
    assert ledger.audit(limit=2) == records[:2]
    assert ledger.audit("wine") == records[1::2]
    assert ledger.audit("wine", after=2, limit=1) == [records[3]]
    assert ledger.audit(after=6) == ledger.audit("none") == []
    assert ledger.audit_head() == Head(6, records[-1].hash)
