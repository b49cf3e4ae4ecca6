"""Decisions in SQLite: states under compare-and-set, and the audit trail.

Rules:
1. A change is one transaction; a revision that is not the newest undoes all of it.
2. The audit trail's next place comes from a head kept beside it, so what was cut off at its end leaves a gap.
3. Verifying reads a snapshot beside the other calls: a long trail keeps no decision waiting.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from router.store.audit import GENESIS, AuditEntry, AuditRecord, Finding, Head, Row, findings, record_of, seal
from router.store.base import Intent, Key, Kind, Put, StoreConflict, Versioned
from router.store.sqlite_file import SqliteFile

LARGEST = 2**63 - 1


class SqliteLedger:
    """`Ledger` in `file`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def rollouts(self) -> Mapping[Key, Versioned]:
        """See `Ledger.rollouts`."""
        return self._states(Kind.ROLLOUT)

    def put_rollout(self, model: str, version: str, state: bytes, expect: int) -> int:
        """See `Ledger.put_rollout`."""
        return self.put_all([Put(Kind.ROLLOUT, model, version, state, expect)])[0]

    def delete_rollout(self, model: str, version: str, expect: int) -> None:
        """See `Ledger.delete_rollout`."""
        self.put_all([Put(Kind.ROLLOUT, model, version, None, expect)])

    def evidences(self) -> Mapping[Key, Versioned]:
        """See `Ledger.evidences`."""
        return self._states(Kind.EVIDENCE)

    def put_evidence(self, model: str, version: str, state: bytes, expect: int) -> int:
        """See `Ledger.put_evidence`."""
        return self.put_all([Put(Kind.EVIDENCE, model, version, state, expect)])[0]

    def delete_evidence(self, model: str, version: str, expect: int) -> None:
        """See `Ledger.delete_evidence`."""
        self.put_all([Put(Kind.EVIDENCE, model, version, None, expect)])

    def gates(self) -> Mapping[Key, Versioned]:
        """See `Ledger.gates`."""
        return self._states(Kind.GATE)

    def put_all(self, puts: Sequence[Put]) -> tuple[int, ...]:
        """See `Ledger.put_all`."""
        with self._file.writing() as connection:
            return tuple(_put(connection, put) for put in puts)

    def commit_intent(self, entry: AuditEntry, puts: Sequence[Put]) -> Intent:
        """See `Ledger.commit_intent`."""
        with self._file.writing() as connection:
            revisions = tuple(_put(connection, put) for put in puts)
            return Intent(_append(connection, entry), revisions)

    def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """See `Ledger.append_audit`."""
        return self.commit_intent(entry, ()).record

    def audit(self, model: str | None = None, after: int = 0, limit: int = 1000) -> Sequence[AuditRecord]:
        """See `Ledger.audit`."""
        with self._file.reading() as connection:
            return [record_of(row) for row in audit_rows(connection, model, after, limit)]

    def audit_head(self) -> Head:
        """See `Ledger.audit_head`."""
        with self._file.reading() as connection:
            return audit_head(connection)

    def verify(self, head: Head | None = None) -> Sequence[Finding]:
        """See `Ledger.verify`."""
        with self._file.snapshot() as connection:
            return verified(connection, head)

    def _states(self, kind: Kind) -> Mapping[Key, Versioned]:
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT model, version, value, revision FROM state WHERE kind = ? ORDER BY model, version", (kind,)
            ).fetchall()
        return {(model, version): Versioned(value, revision) for model, version, value, revision in rows}


def audit_rows(connection: sqlite3.Connection, model: str | None, after: int, limit: int) -> list[Row]:
    """See `Ledger.audit`; the records as they are kept."""
    bounds = (min(after, LARGEST), max(0, min(limit, LARGEST)))
    if model is None:
        rows = connection.execute(
            "SELECT sequence, model, body, hash FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?", bounds
        )
    else:
        rows = connection.execute(
            "SELECT sequence, model, body, hash FROM audit WHERE model = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (model, *bounds),
        )
    return [Row(*row) for row in rows.fetchall()]


def audit_head(connection: sqlite3.Connection) -> Head:
    """The head kept beside the trail; `Head(0, GENESIS)` where somebody removed it."""
    row = connection.execute("SELECT sequence, hash FROM audit_head").fetchone()
    return Head(*row) if row else Head(0, GENESIS)


def verified(connection: sqlite3.Connection, noted: Head | None) -> list[Finding]:
    """What is wrong with the trail that `connection` sees; it should see one state throughout."""
    kept = audit_head(connection)
    cursor = connection.execute("SELECT sequence, model, body, hash FROM audit ORDER BY sequence")
    return findings((Row(*row) for row in cursor), kept=kept, noted=noted)


def _append(connection: sqlite3.Connection, entry: AuditEntry) -> AuditRecord:
    record, row = seal(entry, audit_head(connection))
    connection.execute("INSERT INTO audit (sequence, model, body, hash) VALUES (?, ?, ?, ?)", row)
    connection.execute("UPDATE audit_head SET sequence = ?, hash = ?", (record.sequence, record.hash))
    return record


def _put(connection: sqlite3.Connection, put: Put) -> int:
    """The new revision, 0 for a deletion.

    Raises:
        StoreConflict: the newest revision is not the expected one.
    """
    _expect(connection, put)
    place = (put.kind, put.model, put.version)
    if put.value is None:
        connection.execute("DELETE FROM state WHERE kind = ? AND model = ? AND version = ?", place)
        return 0
    (revision,) = connection.execute("UPDATE revision SET newest = newest + 1 RETURNING newest").fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO state (kind, model, version, value, revision) VALUES (?, ?, ?, ?, ?)",
        (*place, put.value, revision),
    )
    return int(revision)


def _expect(connection: sqlite3.Connection, put: Put) -> None:
    row = connection.execute(
        "SELECT revision FROM state WHERE kind = ? AND model = ? AND version = ?", (put.kind, put.model, put.version)
    ).fetchone()
    revision = row[0] if row else 0
    if revision != put.expect:
        raise StoreConflict(
            f"the {put.kind} of {put.version} of {put.model} is at revision {revision}, not {put.expect}",
            hint="somebody else changed it first: look at it again",
        )
