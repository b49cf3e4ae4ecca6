"""The store in one SQLite file.

Rules:
1. Making the object touches no disk; each call opens the database where it is not open, so a disk that recovers is
   used again without a restart.
2. Every foreign error leaves as `StoreError`, with the file's path and a way to mend it.
3. A file that is no sound database is moved aside, never deleted, and a new one is begun: what was known is lost to
   the router, and serving goes on.
4. Calls may come from any thread; they take turns.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from router.clock import Clock
from router.store.base import LastGood, StoreError
from router.store.schema import migrate

log = logging.getLogger(__name__)

FILE_NAME = "canary-router.db"

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that holds the database, a backup for example."""

PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON")

UNSOUND = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

HINTS = {
    sqlite3.SQLITE_FULL: "make room on that disk; the router tries again by itself",
    sqlite3.SQLITE_READONLY: "let the router's user write to the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "the directory must exist, and the router's user be allowed to write to it",
    sqlite3.SQLITE_PERM: "let the router's user write to the file and its directory",
    sqlite3.SQLITE_BUSY: "another process holds the database; end it, or wait for it",
    sqlite3.SQLITE_IOERR: "the disk refused; look at the system's log and at the free space",
}


class SqliteStore:
    """`Store` in the SQLite file at `path`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def last_good(self, model: str) -> LastGood | None:
        """See `Store.last_good`."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT text, digest, applied_at FROM last_good WHERE model = ?", (model,)
            ).fetchone()
        return LastGood(*row) if row else None

    def last_goods(self) -> Mapping[str, LastGood]:
        """See `Store.last_goods`."""
        with self._reading() as connection:
            rows = connection.execute("SELECT model, text, digest, applied_at FROM last_good ORDER BY model").fetchall()
        return {model: LastGood(*rest) for model, *rest in rows}

    def save_last_good(self, model: str, text: str, digest: str, at: float) -> None:
        """See `Store.save_last_good`."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO last_good VALUES (?, ?, ?, ?)", (model, text, digest, at))

    def forget(self, model: str) -> None:
        """See `Store.forget`."""
        with self._writing() as connection:
            connection.execute("DELETE FROM last_good WHERE model = ?", (model,))

    def pins(self) -> Mapping[str, str]:
        """See `Store.pins`."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT uri, resolved FROM pin ORDER BY uri").fetchall())

    def save_pin(self, uri: str, resolved: str) -> None:
        """See `Store.save_pin`."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO pin VALUES (?, ?)", (uri, resolved))

    def admitted(self) -> set[str]:
        """See `Store.admitted`."""
        with self._reading() as connection:
            return {digest for (digest,) in connection.execute("SELECT digest FROM admission").fetchall()}

    def admit(self, digest: str, model: str, version: str, at: float) -> None:
        """See `Store.admit`."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO admission VALUES (?, ?, ?, ?)", (digest, model, version, at))

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            self._let_go()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._mapped_errors():
            yield self._opened()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._mapped_errors():
            connection = self._opened()
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = _primary_code(error)
            if code in UNSOUND:
                self._move_aside(error)
            raise StoreError(f"the database {self._path}: {error}", hint=HINTS.get(code, "")) from error

    def _opened(self) -> sqlite3.Connection:
        """The connection; opened, and the file replaced where it is unsound, if there is none."""
        if self._connection is None:
            try:
                self._connection = _open(self._path)
            except sqlite3.DatabaseError as error:
                if _primary_code(error) not in UNSOUND:
                    raise
                self._move_aside(error)
                self._connection = _open(self._path)
        return self._connection

    def _move_aside(self, error: sqlite3.Error) -> None:
        self._let_go()
        aside = f"{self._path.name}.unsound-{int(self._clock.wall() * 1000)}"
        try:
            for part in ("-wal", "-shm", ""):
                source = self._path.with_name(self._path.name + part)
                if source.exists():
                    source.rename(source.with_name(aside + part))
        except OSError as refusal:
            raise StoreError(
                f"the database {self._path} is unsound ({error}) and cannot be moved aside: {refusal.strerror}",
                hint="move it away by hand; the router begins a new one by itself",
            ) from refusal
        log.error(
            "the database %s is unsound (%s): moved aside as %s, beginning anew without what it held",
            self._path,
            error,
            aside,
        )

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _open(path: Path) -> sqlite3.Connection:
    """A checked and migrated connection."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _check(connection)
        for pragma in PRAGMAS:
            connection.execute(pragma).close()
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    with closing(connection.execute("PRAGMA quick_check(1)")) as check:
        (verdict,) = check.fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (the low byte of the extended one); 0 where the error did not come from SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
