"""`history`, as people call it: beside a router, without one, and on a trail that somebody changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.cli import history
from router.cli.main import run
from router.clock import SystemClock
from router.store.audit import GENESIS, AuditEntry, AuditRecord, Head
from router.store.sqlite import FILE_NAME, SqliteStore


def entry(number: int, model: str = "fraud") -> AuditEntry:
    return AuditEntry(
        time=1_700_000_000.0 + number,
        actor="alice",
        action="rollback",
        model=model,
        version="v4",
        before={"weight": 10.0, "phase": "progressing"},
        after={"weight": 0, "phase": "progressing", "latch": True},
        reason=f"reason {number}",
        evidence={"errors": {"e": 1234.5}},
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = SqliteStore(tmp_path / FILE_NAME, SystemClock())
    for number in range(4):
        store.append_audit(entry(number, ("fraud", "wine")[number % 2]))
    store.close()
    return tmp_path


def head_in(state: Path) -> Head:
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        return Head(*connection.execute("SELECT sequence, hash FROM audit_head").fetchone())


def alter(state: Path) -> None:
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_is_never_updated")
        connection.execute("UPDATE audit SET body = replace(body, 'alice', 'mallory') WHERE sequence = 2")


class Router:
    """Answers `GET /audit` as a running router does, three entries a page; `late` entries come while it is asked."""

    url = "http://127.0.0.1:9090"

    def __init__(self, records: list[AuditRecord], late: list[AuditRecord] | None = None) -> None:
        self.records = records
        self.late = late or []
        self.asked: list[Mapping[str, str]] = []

    def get(self, path: str, parameters: Mapping[str, str]) -> Any:
        assert path == "/audit"
        self.asked.append(parameters)
        model, after = parameters.get("model"), int(parameters["after"])
        page = [record for record in self.records if record.sequence > after and model in (None, record.entry.model)]
        self.records, self.late = [*self.records, *self.late[:1]], self.late[1:]
        last = self.records[-1] if self.records else None
        head = {"sequence": last.sequence if last else 0, "hash": last.hash if last else GENESIS}
        return json.loads(json.dumps({"entries": [record.shown() for record in page[:3]], "head": head}))


def records_in(state: Path) -> list[AuditRecord]:
    store = SqliteStore(state / FILE_NAME, SystemClock())
    records = list(store.audit())
    store.close()
    return records


def beside(monkeypatch: pytest.MonkeyPatch, router: Router) -> Router:
    monkeypatch.setattr(history, "find_router", lambda **_: router)
    return router


def test_a_row_tells_who_changed_what_when_and_why(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--state", str(state)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(history.HEADER)
    assert lines[1].split() == (
        [
            "1",
            "2023-11-14T22:13:20Z",
            "alice",
            "rollback",
            "fraud",
            "v4",
            "-",
            "latch",
            "true,",
            "weight",
            "10.0",
            "→",
            "0",
            "reason",
            "0",
        ]
    )
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4", "head"]
    assert lines[-1] == f"head {head_in(state)}"
    assert {path.name for path in state.iterdir()} == {FILE_NAME}


def test_one_model_and_the_newest_only(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "wine", "--state", str(state), "-o", "json"]) == 0
    assert [entry["sequence"] for entry in json.loads(capsys.readouterr().out)["entries"]] == [2, 4]
    assert run(["history", "--limit", "1", "--state", str(state), "-o", "yaml"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert [entry["reason"] for entry in shown["entries"]] == ["reason 3"]
    assert shown["head"] == {"sequence": 4, "hash": head_in(state).hash}
    assert run(["history", "wine", "--state", str(state), "-o", "markdown"]) == 0
    assert "| 4 | " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--verify"], ["--verify", "wine"], ["--head", "HEAD"]])
def test_a_whole_trail_is_verified(state: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    noted = str(head_in(state))
    assert run(["history", "--state", str(state), *(noted if word == "HEAD" else word for word in arguments)]) == 0
    assert "verified: 4 entries" in capsys.readouterr().out


def test_an_altered_trail_is_exit_1_and_says_which_entry(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(state)
    assert run(["history", "--state", str(state)]) == 0
    assert run(["history", "fraud", "--verify", "--state", str(state)]) == 1
    captured = capsys.readouterr()
    assert "entry 2: altered" in captured.err
    assert "verified" not in captured.out
    assert run(["history", "--verify", "-o", "json", "--state", str(state)]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["sequence"] == 2


def test_a_head_noted_elsewhere_finds_another_history(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--head", f"9:{'a' * 64}", "--state", str(state)]) == 1
    assert "entry 9: missing" in capsys.readouterr().err
    assert run(["history", "--head", f"2:{'a' * 64}", "--state", str(state)]) == 1
    assert "entry 2: is not the one that was noted" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--head", "12"], ["--limit", "0"], ["a", "b"]])
def test_wrong_usage_is_exit_2(arguments: list[str], state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--state", str(state), *arguments]) == 2
    assert "Usage:" in capsys.readouterr().err


def test_a_directory_without_a_database_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--state", str(tmp_path)]) == 1
    assert "holds no database" in capsys.readouterr().err


def test_a_damaged_database_says_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / FILE_NAME).write_bytes(b"none" * 1000)
    assert run(["history", "--state", str(state)]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_running_router_is_asked_page_by_page(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    router = beside(monkeypatch, Router(records_in(state)))
    assert run(["history", "--head", str(head_in(state))]) == 0
    assert "verified: 4 entries" in capsys.readouterr().out
    assert [asked["after"] for asked in router.asked] == ["0", "3", "4"]
    assert run(["history", "wine", "-o", "json"]) == 0
    assert [entry["sequence"] for entry in json.loads(capsys.readouterr().out)["entries"]] == [2, 4]
    assert router.asked[-1]["model"] == "wine"


def test_a_router_that_writes_meanwhile_is_no_liar(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *late = records_in(state)
    beside(monkeypatch, Router([first], late))
    assert run(["history", "--verify"]) == 0
    assert "verified: 4 entries" in capsys.readouterr().out


def test_a_router_that_conceals_an_entry_is_found_out(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = records_in(state)
    beside(monkeypatch, Router([records[0], *records[2:]]))
    assert run(["history", "--verify"]) == 1
    assert "entry 2: missing" in capsys.readouterr().err


def test_a_router_without_a_history_has_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(monkeypatch, Router([]))
    assert run(["history", "--verify"]) == 0
    assert f"head 0:{GENESIS}" in capsys.readouterr().out


def test_what_another_release_tells_is_not_guessed_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    router = beside(monkeypatch, Router([]))
    monkeypatch.setattr(router, "get", lambda *_: {"entries": [{"odd": 1}], "head": {}})
    assert run(["history"]) == 1
    assert "does not understand" in capsys.readouterr().err


def test_control_characters_reach_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(tmp_path / FILE_NAME, SystemClock())
    odd = AuditEntry(
        time=1e30, actor="a\x1b[31m", action="rollback", model="m", reason="two\nlines", after={"x": "\x07"}
    )
    store.append_audit(odd)
    store.close()
    assert run(["history", "--state", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "two lines" in shown
