"""The supervisor over real processes: dummy children, real sockets, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.router_process import ROOT, RouterProcess, is_alive
from tests.support.wait import eventually

PROGRAM = (sys.executable, "-m", "tests.support.dummy_router")

Start = Callable[..., RouterProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Start]:
    """Makes routers with dummy children; kills what a test leaves running."""
    made: list[RouterProcess] = []

    def make_one(**options: Any) -> RouterProcess:
        env = {"DUMMY_LOG": str(tmp_path / "events"), **options.pop("env", {})}
        directory = options.pop("directory", tmp_path)
        made.append(RouterProcess(directory, program=PROGRAM, env=env, ready=False, **options))
        return made[-1]

    yield make_one
    for router in made:
        router.kill_supervisor()


def events(tmp_path: Path) -> list[str]:
    """What the dummies wrote down, pids left out."""
    log = tmp_path / "events"
    return [" ".join(line.split()[:2]) for line in log.read_text().splitlines()] if log.exists() else []


def settle(tmp_path: Path, router: RouterProcess, workers: int = 1) -> None:
    """Returns once control and the workers have started."""
    eventually(
        lambda: len([event for event in events(tmp_path) if event.endswith("started")]) > workers,
        what="all children started",
    )
    eventually(lambda: all(child["pid"] for child in router.children().values()))


def ask(url: str) -> int:
    """The pid of the dummy worker that answers at `url`."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        return int(connection.recv(100))


class Control:
    """Control's end of supervisor.sock."""

    def __init__(self, router: RouterProcess) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(15)
        self._socket.connect(str(Path(router.serving["run"]) / "supervisor.sock"))
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def say(self, **message: object) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def say_raw(self, line: bytes) -> None:
        self._socket.sendall(line)

    def hear(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that `wanted` is true of."""
        while line := self._lines.readline():
            event: dict[str, Any] = json.loads(line)
            if wanted(event):
                return event
        pytest.fail("the supervisor hung up")

    def run_dummy(self, name: str, *arguments: str, **env: str) -> None:
        argv = [sys.executable, "-m", "tests.support.dummy_child", "--role", name, *arguments]
        complete = {"DUMMY_LOG": env.pop("log"), "PATH": os.environ["PATH"], **env}
        self.say(op="run", name=name, argv=argv, env=complete)

    def hear_state(self, name: str, state: str) -> dict[str, Any]:
        return self.hear(lambda event: event.get("name") == name and event["state"] == state)


def test_children_start_listen_and_stop_in_order(make: Start, tmp_path: Path) -> None:
    with make(workers=2) as router:
        settle(tmp_path, router, 2)
        assert {"control", "worker-0", "worker-1"} == set(router.children())
        assert ask(router.url) in router.pids("worker-")
        with Control(router) as control:
            control.run_dummy("pyfunc-a", log=str(tmp_path / "events"))
            control.hear_state("pyfunc-a", "running")
            eventually(lambda: "pyfunc-a started" in events(tmp_path))
            router.send(signal.SIGTERM)
            control.hear(lambda event: event["event"] == "draining")
        assert router.wait() == 0
        ends = [event for event in events(tmp_path) if event.endswith("term")]
        assert set(ends[:2]) == {"worker-0 term", "worker-1 term"}
        assert set(ends[2:]) == {"control term", "pyfunc-a term"}
        assert not (router.state / "serving.json").exists()
        assert not (router.state / "run").exists()


def test_a_killed_child_is_started_again_and_its_siblings_notice_nothing(make: Start, tmp_path: Path) -> None:
    with make(workers=2) as router:
        settle(tmp_path, router, 2)
        sibling = router.children()["worker-1"]["pid"]
        control = router.children()["control"]["pid"]
        for name in ("worker-0", "control"):
            before = router.kill(name)
            router.wait_for_restart(name, before)
        children = router.children()
        assert children["worker-0"]["restarts"] == 1
        assert children["worker-0"]["exit"] == -signal.SIGKILL
        assert children["worker-1"]["pid"] == sibling
        assert children["control"]["pid"] != control
        assert ask(router.url) in router.pids("worker-")


def test_connections_wait_while_the_only_worker_is_away(make: Start, tmp_path: Path) -> None:
    with make() as router:
        settle(tmp_path, router)
        before = router.kill("worker-0")
        assert ask(router.url) != before


def test_the_end_of_the_supervisor_is_the_end_of_every_child(make: Start, tmp_path: Path) -> None:
    with make() as router:
        settle(tmp_path, router)
        with Control(router) as control:
            control.run_dummy("pyfunc-a", "--stubborn", log=str(tmp_path / "events"))
            control.hear_state("pyfunc-a", "running")
        family = router.pids("")
        assert len(family) == 3
        router.send(signal.SIGKILL)
        router.wait()
        eventually(lambda: not any(is_alive(pid) for pid in family), 10)


def test_after_a_crash_the_next_router_takes_over_directory_and_port(make: Start, tmp_path: Path) -> None:
    with make() as first:
        settle(tmp_path, first)
        port = first.url.rpartition(":")[2]
        first.send(signal.SIGKILL)
        first.wait()
        with make(listen=[f"127.0.0.1:{port}"]) as second:
            assert second.url == first.url
            assert ask(second.url) in eventually(lambda: second.pids("worker-"))


def test_a_second_router_on_the_same_state_is_refused_with_the_pid(make: Start, tmp_path: Path) -> None:
    with make() as first:
        second = make()
        with pytest.raises(AssertionError, match="ended with 1"):
            second.start()
        message = second.log[second.log.index("error: ") :]
        assert f"another router (pid {first.pid}) runs on the state directory {first.state}" in message
        assert "--state" in message
        assert "Traceback" not in second.log
        settle(tmp_path, first)


def test_a_port_in_use_is_told_with_its_holder(make: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        router = make(listen=[f"eu-west={address}"])
        with pytest.raises(AssertionError, match="ended with 1"):
            router.start()
    assert f"listen (eu-west): cannot listen on {address}: the port is in use" in router.log
    assert f"(pid {os.getpid()}) listens there" in router.log
    assert "Traceback" not in router.log


@pytest.mark.parametrize("place", ["file", "/proc/canary"])
def test_a_state_directory_that_cannot_be_used_is_told(make: Start, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a directory")
    router = make(state=tmp_path / place)
    with pytest.raises(AssertionError, match="ended with 1"):
        router.start()
    assert "the state directory" in router.log
    assert "--state" in router.log
    assert "Traceback" not in router.log


def test_a_long_state_path_gets_a_temporary_run_directory(make: Start, tmp_path: Path) -> None:
    state = tmp_path / ("x" * 100)
    with make(state=state) as router:
        run = Path(router.serving["run"])
        assert run.parent != state
        assert stat.S_IMODE(run.stat().st_mode) & 0o766 == 0o700
        settle(tmp_path, router)
        router.send(signal.SIGKILL)
        router.wait()
        assert run.exists()
        with make(state=state) as second:
            assert not run.exists()
            run = Path(second.serving["run"])
            settle(tmp_path, second)
    assert not run.exists()


def test_what_the_children_are_told(make: Start, tmp_path: Path) -> None:
    with make(listen=["eu=127.0.0.1:0", "us=[::1]:0"], workers=2) as router:
        settle(tmp_path, router, 2)
        run = Path(router.serving["run"])
        told = json.loads((run / "settings.json").read_text())
        assert stat.S_IMODE((run / "settings.json").stat().st_mode) == 0o600
        assert told["worker_count"] == 2
        assert f"http://{told['bound']['admin']}" == router.admin
        assert {f"http://{address}" for address in told["bound"]["listen"].values()} == {
            router.url_in("eu"),
            router.url_in("us"),
        }
        assert told["settings"]["state"] == str(router.state)
        (token,) = told["settings"]["tokens"]
        assert token["role"] == "operator"
        assert router.token not in json.dumps(told)


def test_the_admin_token_is_private_and_stays_over_a_restart(make: Start, tmp_path: Path) -> None:
    with make() as router:
        first = router.token
        assert len(first) >= 32
        assert stat.S_IMODE((router.state / "admin-token").stat().st_mode) == 0o600
        settle(tmp_path, router)
    with make() as again:
        assert again.token == first
        settle(tmp_path, again)


def test_model_servers_are_run_replaced_restarted_and_stopped(make: Start, tmp_path: Path) -> None:
    log = str(tmp_path / "events")
    with make() as router:
        settle(tmp_path, router)
        with Control(router) as control:
            control.hear(lambda event: event["event"] == "children")
            control.run_dummy("pyfunc-a", log=log)
            first = control.hear_state("pyfunc-a", "running")["pid"]
            control.run_dummy("pyfunc-a", log=log)
            control.say(op="list")
            children = control.hear(lambda event: event["event"] == "children")["children"]
            assert [child["pid"] for child in children if child["name"] == "pyfunc-a"] == [first]
            control.run_dummy("pyfunc-a", "--other", log=log)
            control.hear_state("pyfunc-a", "stopped")
            second = control.hear_state("pyfunc-a", "running")["pid"]
            assert second != first
            assert not is_alive(first)
            control.say(op="restart", name="pyfunc-a")
            third = control.hear_state("pyfunc-a", "running")["pid"]
            assert third != second
            control.say(op="stop", name="pyfunc-a")
            control.hear_state("pyfunc-a", "stopped")
            assert not is_alive(third)
            assert "pyfunc-a" not in router.children()


def test_a_model_server_gets_its_own_environment_only(make: Start, tmp_path: Path) -> None:
    with make(env={"SECRET": "s3cret"}) as router:
        settle(tmp_path, router)
        with Control(router) as control:
            control.run_dummy("pyfunc-a", log=str(tmp_path / "events"), OWN="1")
            pid = control.hear_state("pyfunc-a", "running")["pid"]
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"OWN=1" in environ
            assert b"SECRET" not in environ


def test_model_servers_outlive_control(make: Start, tmp_path: Path) -> None:
    with make() as router:
        settle(tmp_path, router)
        with Control(router) as control:
            control.run_dummy("pyfunc-a", log=str(tmp_path / "events"))
            pid = control.hear_state("pyfunc-a", "running")["pid"]
        router.wait_for_restart("control", router.kill("control"))
        with Control(router) as control:
            children = control.hear(lambda event: event["event"] == "children")["children"]
        assert [child["pid"] for child in children if child["name"] == "pyfunc-a"] == [pid]


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"[]\n",
        b'{"op": "dance"}\n',
        b'{"op": "stop", "name": "control"}\n',
        b'{"op": "run", "name": "worker-0", "argv": ["true"], "env": {}}\n',
        b'{"op": "run", "name": "pyfunc-a", "argv": "true", "env": {}}\n',
        b'{"op": "run", "name": "pyfunc-a", "argv": ["true"], "env": {"A": 1}}\n',
    ],
)
def test_what_is_not_understood_changes_nothing(make: Start, tmp_path: Path, line: bytes) -> None:
    with make() as router:
        settle(tmp_path, router)
        before = router.pids("")
        with Control(router) as control:
            control.say_raw(line)
            assert "not understood" in control.hear(lambda event: event["event"] == "error")["message"]
        assert router.pids("") == before


def test_a_program_that_is_not_there_is_tried_again_and_reported(make: Start, tmp_path: Path) -> None:
    with make() as router:
        settle(tmp_path, router)
        with Control(router) as control:
            control.say(op="run", name="pyfunc-a", argv=["/nowhere/python"], env={})
            assert control.hear_state("pyfunc-a", "backoff")["exit"] == 127
            control.say(op="stop", name="pyfunc-a")
            control.hear_state("pyfunc-a", "stopped")


def test_a_child_that_fails_again_and_again_is_told_once(make: Start, tmp_path: Path) -> None:
    with make(env={"DUMMY_WORKER": "--fail"}) as router:
        eventually(lambda: "worker-0 has failed 5 times in a row (last: exit code 7)" in router.log)
        failures = router.children()["worker-0"]["restarts"]
        eventually(lambda: router.children()["worker-0"]["restarts"] > failures)
        assert router.log.count("worker-0 ended unasked") == 4


def test_a_worker_that_does_not_end_is_killed_after_the_grace(make: Start, tmp_path: Path) -> None:
    with make(env={"DUMMY_WORKER": "--stubborn"}, arguments=["--grace", "0.3s"]) as router:
        settle(tmp_path, router)
        router.stop()
        assert "worker-0 did not end within 0.3 s of SIGTERM: killing it" in router.log


def test_a_second_interrupt_ends_it_at_once(make: Start, tmp_path: Path) -> None:
    with make(env={"DUMMY_WORKER": "--stubborn"}) as router:
        settle(tmp_path, router)
        family = router.pids("")
        router.send(signal.SIGINT)
        eventually(lambda: "worker-0 term" in events(tmp_path))
        router.send(signal.SIGINT)
        assert router.wait() == 1
        eventually(lambda: not any(is_alive(pid) for pid in family), 10)


def test_draining_comes_before_listening_stops(make: Start, tmp_path: Path) -> None:
    with make(arguments=["--drain-delay", "1s"]) as router:
        settle(tmp_path, router)
        with Control(router) as control:
            router.send(signal.SIGTERM)
            control.hear(lambda event: event["event"] == "draining")
            assert ask(router.url) in router.pids("worker-")
            eventually(lambda: "worker-0 draining" in events(tmp_path))
            assert (Path(router.serving["run"]) / "draining").exists(), "for a worker that starts now"
            assert "worker-0 term" not in events(tmp_path)
        assert router.wait() == 0


def test_an_empty_config_directory_is_served_with_a_warning(make: Start, tmp_path: Path) -> None:
    with make() as router:
        settle(tmp_path, router)
        assert "there are no models in" in router.log


def test_a_missing_config_directory_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "serve", "--config", str(tmp_path / "nowhere"), "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert f"the config directory {tmp_path / 'nowhere'} does not exist" in done.stderr
    assert "--config" in done.stderr
    assert "Traceback" not in done.stderr
