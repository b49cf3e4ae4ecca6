"""Migrations: in order, all or none, and never backwards."""

from __future__ import annotations

import sqlite3

import pytest

from router.store.base import StoreError
from router.store.schema import MIGRATIONS, migrate

FIRST = ("CREATE TABLE a (x)",)
SECOND = ("CREATE TABLE b (x)", "INSERT INTO b SELECT x FROM a")


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_only_what_is_due_is_done(connection: sqlite3.Connection) -> None:
    migrate(connection, [FIRST])
    connection.execute("INSERT INTO a VALUES (7)")
    migrate(connection, [FIRST, SECOND])
    migrate(connection, [FIRST, SECOND])
    assert version(connection) == 2
    assert connection.execute("SELECT x FROM b").fetchall() == [(7,)]


def test_a_failing_migration_leaves_the_database_as_it_was(connection: sqlite3.Connection) -> None:
    migrate(connection, [FIRST])
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [FIRST, ("CREATE TABLE c (x)", "this is no SQL")])
    assert version(connection) == 1
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]


def test_a_newer_database_is_refused(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match="newer release"):
        migrate(connection)
