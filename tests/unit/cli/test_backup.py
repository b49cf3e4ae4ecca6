"""`backup` and `restore`, as people call them."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from router.cli.main import run
from router.clock import SystemClock
from router.store.audit import AuditEntry
from router.store.sqlite import FILE_NAME, SqliteStore
from router.supervisor.state import StateDirectory

Bytes = dict[str, bytes]

NOBODY = 65534


def entry(number: int) -> AuditEntry:
    return AuditEntry(time=float(number), actor="alice", action="rollback", model="fraud", reason=f"reason {number}")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[SqliteStore]:
    """The store of a router that runs on `tmp_path / "state"`."""
    (tmp_path / "state").mkdir()
    store = SqliteStore(tmp_path / "state" / FILE_NAME, SystemClock())
    store.append_audit(entry(1))
    store.put_rollout("fraud", "v4", b"latched", 0)
    yield store
    store.close()


@pytest.fixture
def state(tmp_path: Path, running: SqliteStore) -> Path:
    return tmp_path / "state"


@pytest.fixture
def file(tmp_path: Path, state: Path) -> Path:
    assert run(["backup", str(tmp_path / "backup.tar"), "--state", str(state)]) == 0
    return tmp_path / "backup.tar"


def content(file: Path) -> Bytes:
    with tarfile.open(file) as packed:
        members = [(member, packed.extractfile(member)) for member in packed.getmembers()]
        return {member.name: data.read() for member, data in members if data is not None}


def rewrite(file: Path, members: Bytes) -> None:
    with tarfile.open(file, "w") as packed:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            packed.addfile(header, io.BytesIO(data))


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def store_in(state: Path) -> SqliteStore:
    return SqliteStore(state / FILE_NAME, SystemClock())


def test_a_backup_of_a_running_router_is_one_private_file(file: Path, running: SqliteStore) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(content(file)) == ["manifest.json", FILE_NAME]
    manifest = json.loads(content(file)["manifest.json"])
    assert manifest["head"] == list(running.audit_head())
    assert manifest["files"][FILE_NAME]["size"] == len(content(file)[FILE_NAME])
    assert names_in(file.parent) == {"state", "backup.tar"}


def test_a_backup_tells_what_it_is(tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", str(tmp_path / "b"), "--state", str(state), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["head"]["sequence"] == 1
    assert shown["format"] == 1


def test_a_restored_router_knows_what_the_backup_knew_and_that_it_was_restored(
    tmp_path: Path, file: Path, running: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    head = running.audit_head()
    running.append_audit(entry(2))
    capsys.readouterr()
    assert run(["restore", str(file), "--state", str(tmp_path / "new"), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    restored = store_in(tmp_path / "new")
    assert restored.rollouts()["fraud", "v4"].value == b"latched"
    assert restored.verify(head) == []
    assert restored.audit()[-1].entry.action == "restore"
    assert restored.audit()[-1].entry.actor.endswith("on this machine")
    assert shown["head"] == {"sequence": 2, "hash": restored.audit_head().hash}
    restored.close()
    assert (tmp_path / "new" / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path / "new") == {FILE_NAME, "lock"}


def test_a_database_is_replaced_only_by_force_and_kept(
    file: Path, state: Path, running: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    running.append_audit(entry(2))
    running.close()
    assert run(["restore", str(file), "--state", str(state)]) == 1
    assert "--force" in capsys.readouterr().err
    assert run(["restore", str(file), "--state", str(state), "--force"]) == 0
    (aside,) = state.glob(f"{FILE_NAME}.replaced-*")
    assert str(aside) in capsys.readouterr().err
    kept, now = SqliteStore(aside, SystemClock()), store_in(state)
    assert [record.entry.reason for record in kept.audit()] == ["reason 1", "reason 2"]
    assert [record.entry.action for record in now.audit()] == ["rollback", "restore"]
    kept.close()
    now.close()


def test_what_a_killed_router_left_in_its_log_is_kept_and_not_played_into_the_new_database(
    file: Path, state: Path, running: SqliteStore
) -> None:
    running.append_audit(entry(2))
    whole = {name: (state / name).read_bytes() for name in names_in(state)}
    running.close()
    for name, data in whole.items():
        (state / name).write_bytes(data)
    assert f"{FILE_NAME}-wal" in names_in(state)
    assert run(["restore", str(file), "--state", str(state), "--force"]) == 0
    now = store_in(state)
    assert [record.entry.action for record in now.audit()] == ["rollback", "restore"]
    now.close()
    (aside,) = state.glob(f"{FILE_NAME}.replaced-*Z")
    kept = SqliteStore(aside, SystemClock())
    assert [record.entry.reason for record in kept.audit()] == ["reason 1", "reason 2"]
    kept.close()


def test_a_damaged_database_is_mended_by_a_backup(file: Path, state: Path, running: SqliteStore) -> None:
    running.close()
    (state / FILE_NAME).write_bytes(b"damaged" * 1000)
    assert run(["restore", str(file), "--state", str(state), "--force"]) == 0
    now = store_in(state)
    assert now.rollouts()["fraud", "v4"].value == b"latched"
    now.close()
    (aside,) = state.glob(f"{FILE_NAME}.replaced-*")
    assert aside.read_bytes() == b"damaged" * 1000


def test_a_directory_that_a_router_runs_on_is_left_alone(
    file: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(StateDirectory(state)):
        assert run(["restore", str(file), "--state", str(state), "--force"]) == 1
    assert "another router" in capsys.readouterr().err


def no_database(members: Bytes) -> None:
    del members[FILE_NAME]


def more_members(members: Bytes) -> None:
    members["../../evil"] = b""


def other_order(members: Bytes) -> None:
    members["manifest.json"] = members.pop("manifest.json")


def altered_database(members: Bytes) -> None:
    members[FILE_NAME] = members[FILE_NAME].replace(b"reason 1", b"reason 2")


def cut_database(members: Bytes) -> None:
    members[FILE_NAME] = members[FILE_NAME][:-1]


def no_manifest(members: Bytes) -> None:
    members["manifest.json"] = b"{}"


def other_format(members: Bytes) -> None:
    members["manifest.json"] = members["manifest.json"].replace(b'"format": 1', b'"format": 2')


def other_file(members: Bytes) -> None:
    members["manifest.json"] = members["manifest.json"].replace(FILE_NAME.encode(), b"other")


@pytest.mark.parametrize(
    "change",
    [no_database, more_members, other_order, altered_database, cut_database, no_manifest, other_format, other_file],
)
def test_what_is_no_whole_backup_is_refused_before_anything_changes(
    tmp_path: Path, file: Path, change: Callable[[Bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    members = content(file)
    change(members)
    rewrite(file, members)
    assert run(["restore", str(file), "--state", str(tmp_path / "new")]) == 1
    assert str(file) in capsys.readouterr().err
    assert names_in(tmp_path / "new") == {"lock"}


@pytest.mark.parametrize("length", [0, 100, 600, 3000])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, file: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(file.read_bytes()[:length])
    assert run(["restore", str(file), "--state", str(tmp_path / "new")]) == 1
    assert "no backup, or a damaged one" in capsys.readouterr().err


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(file, "w") as packed:
        header = tarfile.TarInfo("manifest.json")
        header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(header)
    assert run(["restore", str(file), "--state", str(tmp_path / "new")]) == 1
    assert "not where it should be" in capsys.readouterr().err


def test_a_broken_trail_is_backed_up_with_a_warning_and_restored_only_if_told_to(
    tmp_path: Path, state: Path, running: SqliteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as by_hand:
        by_hand.execute("DROP TRIGGER audit_is_never_updated")
        by_hand.execute("UPDATE audit SET body = replace(body, 'alice', 'mallory')")
    file = str(tmp_path / "backup.tar")
    assert run(["backup", file, "--state", str(state)]) == 0
    assert "entry 1: altered" in capsys.readouterr().err
    assert run(["restore", file, "--state", str(tmp_path / "new")]) == 1
    assert "entry 1: altered" in capsys.readouterr().err
    assert run(["restore", file, "--state", str(tmp_path / "new"), "--accept-broken-trail"]) == 0


def test_a_trail_cut_off_to_fit_the_database_does_not_fit_the_manifest(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = content(file)
    manifest = json.loads(members["manifest.json"])
    manifest["head"] = [7, "a" * 64]
    members["manifest.json"] = json.dumps(manifest).encode()
    rewrite(file, members)
    assert run(["restore", str(file), "--state", str(tmp_path / "new")]) == 1
    assert "entry 7: missing" in capsys.readouterr().err


def test_no_database_no_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", str(tmp_path / "b"), "--state", str(tmp_path)]) == 1
    assert "holds no database" in capsys.readouterr().err


def test_a_backup_into_nowhere_is_refused(tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", str(tmp_path / "none" / "b"), "--state", str(state)]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_no_file_no_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", str(tmp_path / "none"), "--state", str(tmp_path / "new")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert run(["restore"]) == 2


def test_a_newer_backup_takes_the_place_of_an_older_one_whole(file: Path, state: Path, running: SqliteStore) -> None:
    running.append_audit(entry(2))
    assert run(["backup", str(file), "--state", str(state)]) == 0
    assert json.loads(content(file)["manifest.json"])["head"][0] == 2


def test_a_crash_while_replacing_leaves_a_database_that_is_whole(
    file: Path, state: Path, running: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.append_audit(entry(2))
    running.close()

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(Path, "replace", crash)
        assert run(["restore", str(file), "--state", str(state), "--force"]) == 1
    now = store_in(state)
    assert [record.entry.reason for record in now.audit()] == ["reason 1", "reason 2"]
    now.close()


def test_a_database_restored_by_root_belongs_to_whom_the_directory_does(tmp_path: Path, file: Path) -> None:
    (tmp_path / "new").mkdir()
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()
    os.chown(tmp_path / "new", owner, -1)
    assert run(["restore", str(file), "--state", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / FILE_NAME).stat().st_uid == owner
