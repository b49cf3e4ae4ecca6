"""`canary-router doctor`: each check, well and ill."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from router.cli import doctor_machine as machine
from router.cli import doctor_reach as reach
from router.cli.main import run
from router.clock import SystemClock
from tests.support.configs import new_repository, text_of

LISTEN = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("CANARY_ROUTER_")]:
        monkeypatch.delenv(name)
    folder = new_repository(tmp_path / "repository", fraud=text_of())
    (folder / "config" / "router.yaml").write_text(f"{LISTEN}state: {tmp_path / 'state'}\n")
    return folder


@pytest.mark.needs("git")
def test_every_check_is_made(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--config", str(repository / "config"), "-o", "json"]) == 0
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert set(found) == {
        "settings", "configs", "registry", "git", "port default", "port admin", "state", "clock", "open files",
        "backlog",
    }  # fmt: skip
    assert [found[check]["state"] for check in ("configs", "registry", "git", "state")] == ["ok", "skipped", "ok", "ok"]
    assert all(each["remedy"] for each in found.values() if each["state"] in {"warning", "failed"})
    assert not (repository.parent / "state").exists()


@pytest.mark.needs("git")
def test_what_fails_is_told_with_a_remedy(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "config" / "models" / "fraud.yaml").write_text("model: [")
    assert run(["doctor", "--config", str(repository / "config"), "--registry", "http://127.0.0.1:1"]) == 1
    said = capsys.readouterr().out
    assert "configs: see them all with: canary-router validate" in said
    assert "no MLflow server answers at http://127.0.0.1:1" in said


def test_settings_that_cannot_be_read_end_it(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "config" / "router.yaml").write_text("workers: many\n")
    assert run(["doctor", "--config", str(repository / "config")]) == 1
    assert "settings: " in capsys.readouterr().out


def answering(status: int = 200, *, ahead: float = 0.0) -> httpx.MockTransport:
    def answer(_: httpx.Request) -> httpx.Response:
        date = formatdate(SystemClock().wall() + ahead, usegmt=True)
        return httpx.Response(status, json={}, headers={"date": date})

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(
    ("url", "models", "transport", "state", "said"),
    [
        (None, [], None, "skipped", "no config needs one"),
        (None, ["fraud"], None, "failed", "1 models need one, such as fraud"),
        ("http://mlflow", ["fraud"], answering(), "ok", "it answers"),
        ("http://mlflow", [], answering(ahead=600), "warning", "its clock differs from ours by"),
        ("http://mlflow", [], answering(403), "failed", "refuses the credentials"),
    ],
)
def test_the_registry(
    url: str | None, models: list[str], transport: httpx.MockTransport | None, state: str, said: str
) -> None:
    found = reach.registry(url, models, transport)
    assert (found.state, said in found.found) == (state, True)


@pytest.mark.needs("git")
def test_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = reach.git(tmp_path)
    assert (found.state, "is not in a repository" in found.found) == ("warning", True)
    assert reach.git(new_repository(tmp_path / "a")).state == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install git" in reach.git(tmp_path).remedy


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_ports(taken: str) -> None:
    assert reach.port("port admin", "127.0.0.1:0", 0).state == "ok"
    found = reach.port("port admin", taken, 0)
    assert (found.state, f"(pid {os.getpid()}) listens there" in found.remedy) == ("failed", True)
    assert "a router runs on our state directory (pid 7)" in reach.port("port admin", taken, 7).found


def test_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.state_directory(tmp_path / "not" / "yet", 0).state == "ok"
    assert "a router runs on it (pid 7)" in machine.state_directory(tmp_path, 7).found
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(machine, "ENOUGH_BYTES", 1 << 62)
    assert "MiB left" in machine.state_directory(tmp_path, 0).found
    monkeypatch.setattr(machine, "filesystem_of", lambda _: "nfs4")
    assert "is on nfs4" in machine.state_directory(tmp_path, 0).found
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", _refuse)
    assert machine.state_directory(tmp_path, 0).state == "failed"


def _refuse(**_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_running_router_is_known_by_its_lock(tmp_path: Path) -> None:
    assert machine.running_router(tmp_path) == 0
    with (tmp_path / "lock").open("w") as lock:
        assert machine.running_router(tmp_path) == 0
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.running_router(tmp_path) == os.getpid()


def test_the_file_system_is_that_of_the_longest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nb {tmp_path} nfs4 rw 0 0\nc {tmp_path}x tmpfs rw 0 0\n")
    assert machine.filesystem_of(tmp_path / "state", mounts) == "nfs4"
    assert machine.filesystem_of(Path("/"), mounts) == "ext4"
    assert machine.filesystem_of(tmp_path, tmp_path / "gone") == ""


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.clock_state() in {-1, 0, 1, 2, 3, 4, 5}
    monkeypatch.setattr(machine, "clock_state", lambda: 0)
    assert machine.clock().state == "ok"
    monkeypatch.setattr(machine, "clock_state", lambda: 5)
    assert machine.clock().state == "warning"
    monkeypatch.setattr(machine, "_NEWER_THAN", 1e12)
    assert machine.clock().state == "failed"


@pytest.mark.parametrize(
    ("soft", "hard", "state"),
    [(65536, 65536, "ok"), (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok"), (4096, 4096, "warning"),
     (256, 65536, "failed")],
)  # fmt: skip
def test_open_files(soft: int, hard: int, state: str) -> None:
    found = machine.open_files(soft, hard)
    assert found.state == state
    assert ("hard limit" in found.remedy) == (hard == 4096)
