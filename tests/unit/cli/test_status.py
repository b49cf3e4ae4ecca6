"""The rows of `status`, from what the API says."""

from __future__ import annotations

from typing import Any

import pytest

from router.cli import status
from router.cli.main import run

MODEL: dict[str, Any] = {
    "model": "fraud",
    "regions": {
        "default": {
            "stable": "v3",
            "declared": {"v3": 90.0, "v4": 10.0},
            "effective": {"v3": 100.0, "v4": 0.0},
            "observed": {"v3": 99.5},
        },
        "eu": {"stable": "old", "declared": {"v3": 100.0}, "effective": {"old": 100.0}, "observed": {}},
    },
    "versions": {
        "v3": {"state": "ready", "counts": {"ok": 7, "failure": 2, "fallback": 1}},
        "v4": {"state": "warming", "counts": {}},
    },
    "config": {
        "problems": [{"file": "models/fraud.yaml", "line": 3, "column": 5, "path": "stable", "message": "wrong"}]
    },
}

BROKEN: dict[str, Any] = {
    "model": "new",
    "regions": {},
    "versions": {},
    "config": {"problems": [{"file": "models/new.yaml", "line": None, "column": None, "path": "", "message": "empty"}]},
}


class Router:
    """Answers as the admin port does."""

    asked: str = ""

    def get(self, path: str) -> dict[str, Any]:
        self.asked = path
        return {"models": [MODEL, BROKEN], "problems": ["regions.yaml: odd"]} if path == "/models" else MODEL


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    router = Router()
    monkeypatch.setattr(status, "find_router", lambda **_: router)
    return router


def test_a_row_per_region_and_version() -> None:
    rows = [row[1:-1] for row in status.rows_of(MODEL)]
    assert rows == [
        ("default", "v3", "stable", "ready", "90 %", "100 %", "99.5 %", "10", "3"),
        ("default", "v4", "canary", "warming", "10 %", "0 %", "-", "0", "0"),
        ("eu", "v3", "canary", "ready", "100 %", "-", "-", "10", "3"),
        ("eu", "v4", "-", "warming", "-", "-", "-", "0", "0"),
        ("eu", "old", "stable", "-", "-", "100 %", "-", "0", "0"),
    ]


def test_every_model_and_every_problem(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["MODEL", "REGION", "VERSION"]
    assert "new" in lines[6]
    assert "no good config" in lines[6]
    assert lines[7:] == ["regions.yaml: odd", "models/fraud.yaml:3:5: stable: wrong", "models/new.yaml: empty"]


def test_one_model_is_asked_for_by_name(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "fraud/../x", "-o", "json"]) == 0
    assert router.asked == "/models/fraud%2F..%2Fx"
    assert '"stable": "v3"' in capsys.readouterr().out


def test_a_rollout_is_told_with_its_step_and_what_the_evidence_says(
    router: Router, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout = {"steps": 4, "step": 2, "phase": "awaiting_approval", "countdown": 570.0}
    canary = {"state": "ready", "counts": {}, "rollout": rollout, "verdict": {"reason": "not enough yet"}}
    gone = {"state": "rolled_back", "counts": {}, "reason": "v5 is rolled back: errors"}
    shown = {**MODEL, "versions": {**MODEL["versions"], "v4": canary, "v5": gone}}
    rows = list(status.rows_of(shown))
    assert rows[1][-1] == "awaiting approval, step 2 of 4, 9m 30s left"
    assert list(status.verdicts_of([shown])) == ["fraud v4: not enough yet", "fraud: v5 is rolled back: errors"]
