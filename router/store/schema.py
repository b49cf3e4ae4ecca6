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
        if version > len(migrations):
            raise StoreError(
                f"the database has schema {version}, and this release knows {len(migrations)} at most",
                hint="a newer release wrote it: run that one, or give this one a state directory of its own",
            )
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
