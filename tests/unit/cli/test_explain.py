"""The numbers behind a verdict, in words."""

from __future__ import annotations

from typing import Any

import pytest

from router.cli import explain
from router.cli.main import run

READING = {
    "e": 9570.0, "threshold": 2500.0, "fired": True, "observed_canary": 1.0, "observed_stable": 0.0,
    "bad_canary": 5, "bad_stable": 0, "n_canary": 41, "n_stable": 395, "note": "",
}  # fmt: skip
SHOWN: dict[str, Any] = {
    "regions": {"default": {"declared": {"v3": 90, "v4": 10}, "effective": {"v3": 100, "v4": 0}}},
    "versions": {
        "v3": {"state": "ready", "evidence": {}, "rollout": None, "verdict": None},
        "v4": {
            "state": "rolled_back",
            "evidence": {"errors": READING},
            "rollout": {"reason": "v4 is rolled back", "missing": ["40s of its hold"]},
            "verdict": {"kind": "fail", "reason": "errors: 100 %", "missing": "more requests"},
        },
    },
}


class Router:
    """Answers as the admin port does."""

    shown: dict[str, Any] = SHOWN

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/models/fraud"
        return self.shown


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    router = Router()
    monkeypatch.setattr(explain, "find_router", lambda **_: router)
    return router


def test_it_says_what_is_in_force_why_and_on_which_numbers(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "fraud"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "v4 is rolled back: 0 % of 10 % declared in default",
        "  last change: v4 is rolled back",
        "  verdict fail: errors: 100 %",
        "  missing for a promotion: more requests",
        "  the step still needs 40s of its hold",
    ]
    assert " ".join(lines[-1].split()) == "v4 errors 9570 fired 2500 5 of 41 0 of 395 100 % / 0 % -"


def test_a_model_without_a_canary_says_so(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    router.shown = {**SHOWN, "versions": {"v3": SHOWN["versions"]["v3"]}}
    assert run(["explain", "fraud"]) == 0
    assert "has no canary" in capsys.readouterr().out


def test_a_canary_that_was_not_looked_at_yet(router: Router) -> None:
    shown = {**SHOWN["versions"]["v4"], "verdict": None, "rollout": None}
    assert list(explain.words_of("v4", shown, SHOWN))[1:] == ["  not looked at yet"]


@pytest.mark.parametrize(("value", "text"), [(1.5e9, "1.5e+09"), (9570.2, "9570"), (0.51234, "0.512")])
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert explain.number(value) == text
