"""A backup of the state directory: one file that can be checked before it is trusted.

Rules:
1. A tar of two members: `manifest.json`, and the database as one consistent copy, made while a router writes to it.
   What can be made anew stays out (fetched models, sockets), and so does what is secret (the admin token).
2. The manifest has every member's size and SHA-256, and the audit trail's head.
3. A backup appears whole under its name or not at all, readable by its user alone; so does a restored database.
4. Nothing is restored before the members fit the manifest and the audit trail fits its head. A member that is not
   named here is refused; no path from inside the file is ever used.
5. What a restore replaces is kept beside it.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from router.clock import Clock
from router.errors import OperatorError
from router.store.audit import AuditEntry, Finding, Head
from router.store.schema import MIGRATIONS
from router.store.sqlite import SqliteStore
from router.store.sqlite_file import COMPANIONS, FILE_NAME, open_as_it_stands, told
from router.store.sqlite_ledger import audit_head, verified

FORMAT = 1
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 1 << 20
_CHUNK = 1 << 20


class Member(msgspec.Struct, frozen=True):
    """A file in a backup. `size` in bytes, `sha256` in hex."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says about itself. `created` is wall-clock seconds; `head` is the audit trail's."""

    format: int
    release: str
    created: float
    schema: int
    head: Head
    files: dict[str, Member]


def write_backup(state: Path, target: Path, clock: Clock, release: str) -> tuple[Manifest, list[Finding]]:
    """Writes a backup of the state directory to `target`; also tells what is wrong with its audit trail.

    Raises:
        OperatorError: there is no database, or the backup cannot be written.
        StoreError: the database cannot be read.
    """
    database = state / FILE_NAME
    if not database.exists():
        raise OperatorError(
            f"the state directory {state} holds no database",
            hint="name the state directory of a router that ran with --state",
        )
    with _writing(target), tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as made:
        copy, tar = Path(made) / FILE_NAME, Path(made) / "tar"
        found = _copy(database, copy)
        with closing(sqlite3.connect(copy)) as connection:
            head = audit_head(connection)
        manifest = Manifest(FORMAT, release, clock.wall(), len(MIGRATIONS), head, {FILE_NAME: _measured(copy)})
        _pack(tar, copy, manifest)
        tar.replace(target)
        _sync_directory(target.absolute().parent)
    return manifest, found


def _copy(database: Path, copy: Path) -> list[Finding]:
    with told(database):
        source = open_as_it_stands(database)
    with closing(source), closing(sqlite3.connect(copy)) as into:
        source.backup(into)
        # One file, without companions that a copy could lose.
        into.execute("PRAGMA journal_mode = DELETE").close()
        return verified(into, None)


def _pack(tar: Path, copy: Path, manifest: Manifest) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    descriptor = os.open(tar, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file, copy.open("rb") as database:
        with tarfile.open(fileobj=file, mode="w") as packed:
            packed.addfile(_header(MANIFEST, len(text), manifest), io.BytesIO(text))
            packed.addfile(_header(FILE_NAME, manifest.files[FILE_NAME].size, manifest), database)
        file.flush()
        os.fsync(file.fileno())


def _header(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = size, 0o600, int(manifest.created)
    return header


def _measured(path: Path) -> Member:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(path.stat().st_size, digest)


@contextmanager
def unpacked(source: Path, state: Path, clock: Clock) -> Iterator[tuple[Manifest, Path, list[Finding]]]:
    """The manifest, the database of the backup `source`, brought to this release's schema, in a temporary place under
    `state`, and what is wrong with its audit trail.

    Raises:
        OperatorError: it is no backup, or a damaged one; or `state` cannot be written to.
        StoreError: a newer release wrote it.
    """
    with _reading(source), tempfile.TemporaryDirectory(prefix=".restore-", dir=state) as made:
        database = Path(made) / FILE_NAME
        with source.open("rb") as file:
            manifest = _unpack(file, database, source)
        store = SqliteStore(database, clock)
        try:
            found = list(store.verify(manifest.head))
        finally:
            store.close()
        yield manifest, database, found


def _unpack(file: IO[bytes], database: Path, source: Path) -> Manifest:
    with tarfile.open(fileobj=file, mode="r:") as packed:
        manifest = _manifest(_member(packed, MANIFEST, source), source)
        expected = manifest.files.get(FILE_NAME)
        with _member(packed, FILE_NAME, source) as data, database.open("xb") as into:
            database.chmod(0o600)
            while chunk := data.read(_CHUNK):
                into.write(chunk)
        if packed.next() is not None:
            raise _damaged(source, "it holds what no backup holds")
    if set(manifest.files) != {FILE_NAME} or _measured(database) != expected:
        raise _damaged(source, f"{FILE_NAME} is not what the manifest says")
    return manifest


def _member(packed: tarfile.TarFile, name: str, source: Path) -> IO[bytes]:
    member = packed.next()
    data = packed.extractfile(member) if member is not None and member.isreg() and member.name == name else None
    if data is None:
        raise _damaged(source, f"{name} is not where it should be")
    return data


def _manifest(data: IO[bytes], source: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode(data.read(LARGEST_MANIFEST), type=Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(source, f"its manifest cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise OperatorError(
            f"{source} is a backup of format {manifest.format}, and this release reads format {FORMAT}",
            hint=f"release {manifest.release} wrote it: restore it with that one, then start this one on the directory",
        )
    return manifest


def record_restore(database: Path, clock: Clock, actor: str, manifest: Manifest, source: Path) -> Head:
    """Appends to the audit trail in `database` that it was restored; returns the new head."""
    store = SqliteStore(database, clock)
    made = datetime.fromtimestamp(manifest.created, UTC).isoformat(timespec="seconds")
    entry = AuditEntry(
        time=clock.wall(),
        actor=actor,
        action="restore",
        model="",
        after={"head": str(manifest.head)},
        reason=f"restored from {source.name}, made {made}",
    )
    try:
        store.append_audit(entry)
        return store.audit_head()
    finally:
        store.close()


def put_in_place(database: Path, state: Path, clock: Clock) -> Path | None:
    """Makes `database` the one of `state`, whose lock the caller holds; returns where the one before is kept.

    Raises:
        OperatorError: `state` cannot be written to.
    """
    target = state / FILE_NAME
    aside = None
    with _writing(target):
        if target.exists():
            stamp = datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            aside = target.with_name(f"{FILE_NAME}.replaced-{stamp}")
            _keep(target, aside)
        if os.geteuid() == 0:
            # Whoever owns the directory runs the router, and must be able to write to the database.
            os.chown(database, state.stat().st_uid, state.stat().st_gid)
        database.replace(target)
        _sync_directory(state)
    return aside


def _keep(target: Path, aside: Path) -> None:
    """Keeps rule 5, so that a crash at any point leaves a database that is whole, or one that is refused."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    for part in ("", *COMPANIONS):
        source = target.with_name(target.name + part)
        if source.exists():
            aside.with_name(aside.name + part).hardlink_to(source)
    # A log that stayed would be played into the new database.
    for part in COMPANIONS:
        target.with_name(target.name + part).unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(source, str(error)) from error
    except OSError as error:
        raise OperatorError(f"{error.filename or source} cannot be read or written: {error.strerror}") from error


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        told_by_system = error.strerror if isinstance(error, OSError) else error
        raise OperatorError(
            f"{target} cannot be written: {told_by_system}",
            hint="its directory must exist, be writable for this user, and have room",
        ) from error


def _damaged(source: Path, what: str) -> OperatorError:
    return OperatorError(
        f"{source} is no backup, or a damaged one: {what}", hint="nothing was changed; try another backup"
    )
