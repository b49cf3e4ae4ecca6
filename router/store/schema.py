"""The tables, and the way from each release's tables to the next one's.

Rules:
1. `PRAGMA user_version` counts the migrations a database has had; migration i takes it from i to i + 1.
2. A migration is never edited once released: a change is a new one at the end.
3. All that are due happen in one transaction, or none.
4. A database from a newer release is refused and left as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from router.store.base import StoreError

Migration = tuple[str, ...]

MIGRATIONS: tuple[Migration, ...] = (
    (
        """
        CREATE TABLE last_good (model TEXT PRIMARY KEY, text TEXT NOT NULL, digest TEXT NOT NULL,
                                applied_at REAL NOT NULL)
        """,
        """
        CREATE TABLE pin (uri TEXT PRIMARY KEY, resolved TEXT NOT NULL)
        """,
        """
        CREATE TABLE admission (digest TEXT PRIMARY KEY, model TEXT NOT NULL, version TEXT NOT NULL,
                                admitted_at REAL NOT NULL)
        """,
    ),
    (
        # A database's own name, by which a running router knows that it is still the same one.
        "CREATE TABLE identity (name TEXT NOT NULL)",
        "INSERT INTO identity VALUES (lower(hex(randomblob(16))))",
        """
        CREATE TABLE state (kind TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, value BLOB NOT NULL,
                            revision INTEGER NOT NULL, PRIMARY KEY (kind, model, version))
        """,
        "CREATE TABLE revision (newest INTEGER NOT NULL)",
        "INSERT INTO revision VALUES (0)",
        """
        CREATE TABLE audit (sequence INTEGER PRIMARY KEY, model TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL)
        """,
        "CREATE INDEX audit_by_model ON audit (model, sequence)",
        "CREATE TABLE audit_head (sequence INTEGER NOT NULL, hash TEXT NOT NULL)",
        "INSERT INTO audit_head VALUES (0, '0000000000000000000000000000000000000000000000000000000000000000')",
        """
        CREATE TRIGGER audit_is_never_updated BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END
        """,
        """
        CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END
        """,
        # INSERT OR REPLACE deletes without asking the trigger above.
        """
        CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
        WHEN NEW.sequence <> (SELECT sequence + 1 FROM audit_head)
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END
        """,
        """
        CREATE TRIGGER audit_head_only_rises BEFORE UPDATE ON audit_head WHEN NEW.sequence <> OLD.sequence + 1
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END
        """,
        """
        CREATE TRIGGER audit_head_is_never_deleted BEFORE DELETE ON audit_head
        BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END
        """,
        # When a config last named it; what was there before this column counts from then.
        "ALTER TABLE pin ADD COLUMN named_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE admission ADD COLUMN named_at REAL NOT NULL DEFAULT 0",
        "UPDATE admission SET named_at = admitted_at",
    ),
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Brings the database to the newest of `migrations`.

    Raises:
        StoreError: a newer release wrote it.
        sqlite3.Error: it cannot be read or written.
    """
    if _version(connection) == len(migrations):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)
        _refuse(version, migrations)
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def refuse_newer(connection: sqlite3.Connection) -> None:
    """Keeps rule 4.

    Raises:
        StoreError: a newer release wrote the database.
    """
    _refuse(_version(connection), MIGRATIONS)


def refuse_other(connection: sqlite3.Connection) -> None:
    """Checks that the database is of this release's schema, for who may not migrate it.

    Raises:
        StoreError: another release wrote it.
    """
    version = _version(connection)
    _refuse(version, MIGRATIONS)
    if version < len(MIGRATIONS):
        raise StoreError(
            f"the database has schema {version}, and this release wants {len(MIGRATIONS)}",
            hint="start the router on it once: that brings it up to date",
        )


def _refuse(version: int, migrations: Sequence[Migration]) -> None:
    if version > len(migrations):
        raise StoreError(
            f"the database has schema {version}, and this release knows {len(migrations)} at most",
            hint="a newer release wrote it: run that one, or give this one a state directory of its own",
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
