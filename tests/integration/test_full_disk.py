"""A router whose state directory is on a real disk that fills up, or turns read-only, around a rollback."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_backup import command
from tests.integration.test_latch import STEPS, Scene, roll_back_by_failing, scene
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.traffic import Traffic
from tests.support.wait import eventually

pytestmark = pytest.mark.needs("mount")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def written(at: Scene) -> None:
    """The rollback is in the audit trail, once, and the trail is whole, asked of the router and read from the disk."""
    eventually(lambda: at.actions() == ["start", "rollback"], 30, "the rollback is in the audit trail")
    told = command("history", "fraud", "--verify", "--admin", at.router.admin)
    assert told.returncode == 0, told.stderr
    assert "verified" in told.stdout
    assert " rollback " in told.stdout
    head = told.stdout.split("head ")[1].split()[0]
    told = command("history", "--head", head, "--state", at.router.state)
    assert told.returncode == 0, told.stderr


def test_a_rollback_on_a_full_disk_takes_effect_and_is_written_when_there_is_room(
    tmp_path: Path, disk: SmallDisk
) -> None:
    with scene(tmp_path, rollout=STEPS, state=disk.path / "state") as at:
        at.settled(5)
        disk.fill()
        assert at.router.steer("fraud", "promote")[0] == 507
        assert at.effective() == 5
        roll_back_by_failing(at)
        assert at.effective() == 0
        assert at.actions() == ["start"]
        assert at.router.steer("fraud", "readmit")[0] == 507
        assert at.effective() == 0
        disk.empty()
        written(at)
        assert at.state() == "rolled_back"


def test_a_rollback_known_on_a_full_disk_survives_the_end_of_the_router(tmp_path: Path, disk: SmallDisk) -> None:
    with scene(tmp_path, state=disk.path / "state") as at:
        at.settled(10)
        roll_back_by_failing(at)
        written(at)
        had = len(at.canary.predictions)
        control = at.router.children()["control"]["pid"]
        disk.fill()
        at.router.kill("control", signal.SIGKILL)
        at.router.wait_for_restart("control", control)
        eventually(lambda: at.router.get("/readyz")[0] == 200, 20, "control is back")
        with Traffic(at.router.url, "fraud", rate=150) as traffic:
            eventually(lambda: len(traffic.results) > 150, what="traffic")
        assert traffic.failed == []
        assert (at.effective(), at.state()) == (0, "rolled_back")
        assert len(at.canary.predictions) == had
        disk.empty()
        written(at)


def test_a_router_that_has_no_room_to_start_says_so(tmp_path: Path, disk: SmallDisk) -> None:
    (tmp_path / "config" / "models").mkdir(parents=True)
    disk.fill()
    config, state = tmp_path / "config", disk.path / "state"
    told = command("serve", "--config", config, "--state", state, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert told.returncode == 1
    assert str(state) in told.stderr
    assert "room" in told.stderr
