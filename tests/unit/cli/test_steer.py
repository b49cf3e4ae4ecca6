"""The commands that steer: what they ask of the router, and what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from router.cli import steer
from router.cli.main import run
from router.errors import ClientError


class Router:
    """Answers as the admin port does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.sequence: int | None = 7
        self.refusal = ""

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        self.asked.append((path, dict(body)))
        if self.refusal:
            raise ClientError(self.refusal)
        action = path.rpartition("/")[2]
        rollout = {"phase": "holding", "reason": "v4 enters step 2 of 4"}
        return {"model": "fraud", "version": "v4", "action": action, "sequence": self.sequence, "rollout": rollout}


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    router = Router()
    monkeypatch.setattr(steer, "find_router", lambda **_: router)
    return router


@pytest.mark.parametrize("action", steer.DONE)
def test_each_command_asks_for_its_action(router: Router, action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([action, "fraud", "--reason", "because"]) == 0
    assert router.asked == [(f"/models/fraud/{action}", {"reason": "because"})]
    said = f"fraud v4 {steer.DONE[action]}: v4 enters step 2 of 4 (audit entry 7)\n"
    assert capsys.readouterr().out == said


def test_promoting_to_the_end_of_one_canary_in_one_region(router: Router) -> None:
    assert run(["promote", "fraud", "--all", "--version", "v4", "--region", "eu"]) == 0
    assert router.asked == [("/models/fraud/promote", {"version": "v4", "region": "eu", "all": True})]


def test_a_rollback_that_the_store_did_not_take_says_so(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    router.sequence = None
    assert run(["rollback", "fraud"]) == 0
    assert "not in the audit trail yet" in capsys.readouterr().out


def test_data_is_printed_as_asked(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pause", "fraud", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequence"] == 7
    assert run(["pause", "fraud", "-o", "markdown"]) == 0
    assert "| fraud | v4 | paused | holding | 7 |" in capsys.readouterr().out


def test_what_does_not_apply_fails_with_the_reason(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    router.refusal = "`readmit` does not apply to v4: it is not rolled back"
    assert run(["readmit", "fraud"]) == 1
    assert "it is not rolled back" in capsys.readouterr().err
