"""The store in one SQLite file: what was good, pinned and admitted, and with it the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from router.clock import Clock
from router.store.base import LastGood
from router.store.sqlite_file import FILE_NAME, SqliteFile
from router.store.sqlite_ledger import SqliteLedger

__all__ = ["FILE_NAME", "SqliteStore"]


class SqliteStore(SqliteLedger):
    """`Store` and `Ledger` in the SQLite file at `path`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(SqliteFile(path))
        self._clock = clock

    def last_good(self, model: str) -> LastGood | None:
        """See `Store.last_good`."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT text, digest, applied_at FROM last_good WHERE model = ?", (model,)
            ).fetchone()
        return LastGood(*row) if row else None

    def last_goods(self) -> Mapping[str, LastGood]:
        """See `Store.last_goods`."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT model, text, digest, applied_at FROM last_good ORDER BY model").fetchall()
        return {model: LastGood(*rest) for model, *rest in rows}

    def save_last_good(self, model: str, text: str, digest: str, at: float) -> None:
        """See `Store.save_last_good`."""
        with self._file.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO last_good VALUES (?, ?, ?, ?)", (model, text, digest, at))

    def forget(self, model: str) -> None:
        """See `Store.forget`."""
        with self._file.writing() as connection:
            connection.execute("DELETE FROM last_good WHERE model = ?", (model,))

    def pins(self) -> Mapping[str, str]:
        """See `Store.pins`."""
        with self._file.reading() as connection:
            return dict(connection.execute("SELECT uri, resolved FROM pin ORDER BY uri").fetchall())

    def save_pin(self, uri: str, resolved: str) -> None:
        """See `Store.save_pin`."""
        with self._file.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO pin (uri, resolved, named_at) VALUES (?, ?, ?)",
                (uri, resolved, self._clock.wall()),
            )

    def admitted(self) -> set[str]:
        """See `Store.admitted`."""
        with self._file.reading() as connection:
            return {digest for (digest,) in connection.execute("SELECT digest FROM admission").fetchall()}

    def admit(self, digest: str, model: str, version: str, at: float) -> None:
        """See `Store.admit`."""
        with self._file.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO admission (digest, model, version, admitted_at, named_at) "
                "VALUES (?1, ?2, ?3, ?4, ?4)",
                (digest, model, version, at),
            )

    def keep_named(self, pins: Collection[str], admitted: Collection[str], at: float, unnamed_for: float) -> int:
        """See `Store.keep_named`."""
        with self._file.writing() as connection:
            connection.executemany(
                "UPDATE pin SET named_at = max(named_at, ?) WHERE uri = ?", [(at, uri) for uri in pins]
            )
            connection.executemany(
                "UPDATE admission SET named_at = max(named_at, ?) WHERE digest = ?",
                [(at, digest) for digest in admitted],
            )
            oldest = at - unnamed_for
            dropped = connection.execute("DELETE FROM pin WHERE named_at < ?", (oldest,)).rowcount
            return dropped + connection.execute("DELETE FROM admission WHERE named_at < ?", (oldest,)).rowcount

    def close(self) -> None:
        """See `Store.close`."""
        self._file.close()
