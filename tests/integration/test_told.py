"""What people hear of a rollback: webhooks and the command line, on a real router."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from router.cli.main import run
from tests.integration.test_latch import STEPS, roll_back_by_failing, scene
from tests.support.stub_upstream import Answer, Request, StubUpstream
from tests.support.wait import eventually

SETTINGS = """\
notify:
  - {{url: "{url}/hook", secret: {{env: HOOK_SECRET}}}}
  - {{url: "{url}/slack", kind: slack, on: [rollback, approval]}}
  - {{url: "{dead}"}}
"""


def bodies(hooks: StubUpstream, path: str) -> list[dict[str, object]]:
    return [json.loads(request.body) for request in hooks.predictions if request.target == path]


def is_signed(request: Request, secret: str) -> bool:
    stamp = request.header("x-canary-router-timestamp") or ""
    expected = hmac.new(secret.encode(), stamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    return request.header("x-canary-router-signature") == f"sha256={expected}"


def test_a_rollback_is_told_signed_and_again_until_it_arrives(tmp_path: Path) -> None:
    with StubUpstream() as hooks, StubUpstream() as dead:
        dead.refuse()
        failures = iter([Answer(503)])
        hooks.answer = lambda request: next(failures, Answer())
        settings = tmp_path / "settings.yaml"
        settings.write_text(SETTINGS.format(url=hooks.url, dead=dead.url))
        arguments = ["--settings", str(settings)]
        with scene(tmp_path, rollout=STEPS, arguments=arguments, env={"HOOK_SECRET": "hush"}) as at:
            at.settled(5)
            roll_back_by_failing(at)
            eventually(lambda: bodies(hooks, "/slack") and bodies(hooks, "/hook"), 15, "both were told")
            eventually(lambda: len(bodies(hooks, "/slack")) + len(bodies(hooks, "/hook")) >= 3, 15, "told again")
        told = bodies(hooks, "/hook")[-1]
        assert (told["event"], told["model"], told["version"]) == ("rollback", "fraud", "v4")
        details = told["details"]
        assert isinstance(details, dict)
        assert details["action"] == "rollback"
        assert all(is_signed(request, "hush") for request in hooks.predictions if request.target == "/hook")
        assert "v4 is rolled back" in str(bodies(hooks, "/slack")[-1]["text"])
        assert hooks.url not in at.router.log


def test_the_command_line_steers_and_explains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CANARY_ROUTER_TOKEN", raising=False)
    with scene(tmp_path, rollout=STEPS) as at:
        at.settled(5)
        where = ["--state", str(at.router.state)]

        def said(*arguments: str, code: int = 0) -> str:
            assert run([*arguments, *where]) == code
            captured = capsys.readouterr()
            return captured.err if code else captured.out

        assert "holding, step 1 of 4, 100h left" in said("status", "fraud")
        eventually(lambda: "no requests of the canary" in said("status"), what="it was looked at")
        assert "enters step 2 of 4" in said("promote", "fraud", "--reason", "it looks good")
        assert "paused" in said("pause", "fraud")
        assert "does not apply" in said("approve", "fraud", code=1)
        assert "goes on" in said("resume", "fraud")
        assert "v4 is rolled back" in said("rollback", "fraud", "--reason", "on call")
        told = said("explain", "fraud")
        assert "v4 is rolled back: 0 % of 10 % declared in default" in told
        assert "errors" in told
        assert "begins with step 1" in said("readmit", "fraud")
        at.settled(5)
        history = said("history", "fraud")
        assert "it looks good" in history
        for action in ("config", "start", "promote", "pause", "resume", "rollback", "readmit"):
            assert action in history
        assert "verified" in said("history", "--verify")
