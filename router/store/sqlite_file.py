"""The SQLite file under the store: opened, guarded, its errors told in our words.

Rules:
1. Making the object touches no disk; each call opens the database where it is not open, so a disk that recovers is
   used again without a restart.
2. Every foreign error leaves as a `StoreError`, with the file's path and a way to mend it.
3. A new database appears whole under its name, or not at all. So an empty or damaged file is never a new one: it is
   refused and left as it is, for beginning anew would undo rollbacks.
4. Where the disk lets nothing be written, not even what SQLite needs to read, the file is read as it stands.
5. A store stays with the database that it opened first: if another one, or none, is found in its place, it refuses.
6. Calls may come from any thread; they take turns.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from router.store.base import StoreDamaged, StoreError, StoreFull
from router.store.schema import migrate, refuse_newer, refuse_other

FILE_NAME = "canary-router.db"

COMPANIONS = ("-wal", "-shm")
"""What SQLite appends to a database's name for the files beside it."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that holds the database, a backup for example."""

PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON")

UNSOUND = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}

REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""What the file system says where SQLite says `NO_ROOM`."""

UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}

HINTS = {
    sqlite3.SQLITE_FULL: "make room on that disk; the router tries again by itself",
    sqlite3.SQLITE_READONLY: "let the router's user write to the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "the directory must exist, and the router's user be allowed to write to it",
    sqlite3.SQLITE_PERM: "let the router's user write to the file and its directory",
    sqlite3.SQLITE_BUSY: "another process holds the database; end it, or wait for it",
    sqlite3.SQLITE_IOERR: "the disk refused; look at the system's log and at the free space",
    sqlite3.SQLITE_CONSTRAINT: "somebody changed it by hand; `canary-router history --verify` says what",
}

MEND_DAMAGED = (
    "stop the router and restore a backup: `canary-router restore FILE --force`; without one, move the file away: "
    "the router then begins anew, and canaries it had rolled back get their weights again"
)


class SqliteFile:
    """The database in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._identity = ""

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with, for this thread alone until it leaves."""
        with self._lock, told(self.path, self._let_go):
            try:
                connection = self._opened()
            except sqlite3.Error as error:
                if _primary_code(error) not in UNWRITABLE or not self.path.exists():
                    raise
            else:
                yield connection
                return
            with closing(open_as_it_stands(self.path, alone=True)) as connection:
                self._recognise(connection)
                yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own to read one state with, for however long, beside all other calls."""
        with self.reading():
            pass
        with told(self.path), closing(self._beside()) as connection:
            connection.execute("BEGIN")
            yield connection

    def _beside(self) -> sqlite3.Connection:
        return open_as_it_stands(self.path, alone=True) if self._connection is None else _connect(self.path)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction, which is committed at the end and undone where an error leaves."""
        with self._lock, told(self.path, self._let_go), self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def close(self) -> None:
        """Lets go of the file; a later call opens it again."""
        with self._lock:
            self._let_go()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None:
            if _inode(self.path) != self._inode:
                raise self._another()
            return self._connection
        if not self.path.exists():
            if self._identity:
                raise self._another()
            _create(self.path)
        connection = _open(self.path)
        try:
            self._recognise(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._inode = connection, _inode(self.path)
        return connection

    def _recognise(self, connection: sqlite3.Connection) -> None:
        """Keeps rule 5."""
        (identity,) = connection.execute("SELECT name FROM identity").fetchone()
        if self._identity not in ("", identity):
            raise self._another()
        self._identity = identity

    def _another(self) -> StoreError:
        return StoreError(
            f"the database {self.path} was moved away or replaced while the router ran",
            hint="put it back, or restart the router to use what is there now",
        )

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # The disk may refuse even this; the next call opens the file anew either way.
            with suppress(sqlite3.Error):
                connection.close()


@contextmanager
def told(path: Path, let_go: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turns what SQLite and the file system say about `path` into a `StoreError`; damage calls `let_go` first."""
    try:
        yield
    except sqlite3.Error as error:
        code = _primary_code(error)
        if code in UNSOUND:
            let_go()
            raise StoreDamaged(f"the database {path} is damaged: {error}", hint=MEND_DAMAGED) from error
        no_room = code in NO_ROOM or _code(error) in NO_ROOM or (code == sqlite3.SQLITE_CANTOPEN and path.exists())
        kind = StoreFull if no_room else StoreError
        raise kind(f"the database {path}: {error}", hint=HINTS.get(code, "")) from error
    except OSError as error:
        code = sqlite3.SQLITE_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else sqlite3.SQLITE_CANTOPEN
        kind = StoreFull if error.errno in REFUSALS else StoreError
        raise kind(f"the database {path}: {error}", hint=HINTS[code]) from error


def open_as_it_stands(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """A connection that only reads, and makes no file beside the database unless somebody else is writing to it.

    `alone` says that nobody else can be.

    Raises:
        StoreError: another release wrote it.
        sqlite3.Error: it is damaged, or cannot be read.
    """
    log = path.with_name(path.name + COMPANIONS[0])
    # With a log beside it the file alone is not the whole truth; without one nobody has it open.
    whole = not log.exists() or (alone and log.stat().st_size == 0)
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if whole else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _check(connection, path)
        refuse_other(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Keeps rule 3."""
    unfinished = path.with_name(f".{path.name}.new")
    for part in ("", *COMPANIONS, "-journal"):
        unfinished.with_name(unfinished.name + part).unlink(missing_ok=True)
    with closing(_connect(unfinished)) as connection:
        migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL").close()
    unfinished.chmod(0o600)
    unfinished.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open(path: Path) -> sqlite3.Connection:
    """A checked and migrated connection."""
    if not os.access(path, os.W_OK, effective_ids=True):
        # SQLite would open it for reading, and stay with that whatever became of the disk later.
        raise _error("attempt to write a readonly database", sqlite3.SQLITE_READONLY)
    connection = _connect(path)
    try:
        _check(connection, path)
        refuse_newer(connection)
        for pragma in PRAGMAS:
            connection.execute(pragma).close()
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size == 0:
        raise _error("the file is empty", sqlite3.SQLITE_CORRUPT)
    with closing(connection.execute("PRAGMA quick_check(1)")) as check:
        (verdict,) = check.fetchone()
    if verdict != "ok":
        raise _error(verdict, sqlite3.SQLITE_CORRUPT)


def _error(what: str, code: int) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = code
    return error


def _inode(path: Path) -> int:
    """The file's number on its disk; 0 where it is not there."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _code(error: sqlite3.Error) -> int:
    """SQLite's extended result code; 0 where the error did not come from SQLite."""
    return getattr(error, "sqlite_errorcode", 0)


def _primary_code(error: sqlite3.Error) -> int:
    """The low byte of the extended result code."""
    return _code(error) & 0xFF
