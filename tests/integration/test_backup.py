"""Backup, restore and history beside a real router, and one that finds its database damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.router_process import ROOT, RouterProcess
from tests.support.stub_upstream import StubUpstream
from tests.support.wait import eventually

MODEL = """
model: fraud
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions: {{default: {{v3: 80, v4: 20}}}}
"""


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


def test_a_router_goes_on_from_a_backup_of_another(tmp_path: Path) -> None:
    file, other = tmp_path / "backup.tar", tmp_path / "other"
    with StubUpstream() as stable, StubUpstream() as canary:
        models = {"fraud": MODEL.format(stable=stable.url, canary=canary.url)}
        (tmp_path / "one").mkdir()
        with RouterProcess(tmp_path / "one", models) as router:
            eventually(lambda: router.model("fraud")["effective"].get("v4") == 20, what="v4 has its weight")
            assert command("backup", file, "--state", router.state).returncode == 0
            refused = command("restore", file, "--state", router.state, "--force")
            assert refused.returncode == 1
            assert "another router" in refused.stderr
            told = command("history", "--verify", "--state", router.state, "-o", "json")
            assert told.returncode == 0, told.stderr
            head = json.loads(told.stdout)["head"]
        assert command("restore", file, "--state", other).returncode == 0
        told = command("history", "--state", other, "--head", f"{head['sequence']}:{head['hash']}")
        assert told.returncode == 0, told.stderr
        assert "restore" in told.stdout
        (tmp_path / "two").mkdir()
        with RouterProcess(tmp_path / "two", models, state=other) as router:
            eventually(lambda: router.model("fraud")["effective"].get("v4") == 20, what="v4 has its weight")


def test_a_router_whose_database_is_damaged_serves_stable_until_a_backup_is_restored(tmp_path: Path) -> None:
    file, state = tmp_path / "backup.tar", tmp_path / "state"
    with StubUpstream() as stable, StubUpstream() as canary:
        models = {"fraud": MODEL.format(stable=stable.url, canary=canary.url).replace("v3: 80, v4: 20", "v4: 100")}
        with RouterProcess(tmp_path, models) as router:
            eventually(lambda: router.predict("fraud").headers.get("x-model-version") == "v4", what="v4 answers")
            assert command("backup", file, "--state", state).returncode == 0
        (state / "canary-router.db").write_bytes(b"damaged" * 1000)
        with RouterProcess(tmp_path, models, ready=False) as router:
            eventually(lambda: router.predict("fraud").headers.get("x-model-version") == "v3", what="stable answers")
            assert "is damaged" in router.log
            assert "restore" in router.log
            assert "no canary gets weight" in command("status", "--admin", router.admin).stdout
            told = command("history", "--state", state)
            assert told.returncode == 1
            assert "is damaged" in told.stderr
        assert (state / "canary-router.db").read_bytes() == b"damaged" * 1000
        assert command("restore", file, "--state", state, "--force").returncode == 0
        with RouterProcess(tmp_path, models) as router:
            eventually(lambda: router.predict("fraud").headers.get("x-model-version") == "v4", what="v4 answers")
