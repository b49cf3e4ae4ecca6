"""A real router in processes of its own, as `canary-router serve` starts it.

Rules:
1. It listens on free loopback ports and keeps everything under the test's directory.
2. Inside the context it is up, and ready unless the test says otherwise; leaving it stops it with SIGTERM and asserts
   that it exits 0 and leaves no process behind. After a failing test it is killed.
3. What it printed is in `log`, and part of the message when it does not come up.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.wait import eventually

PROGRAM = (sys.executable, "-m", "router.cli")
ROOT = Path(__file__).parents[2]
UP_WITHIN = 20.0
READY_WITHIN = 100.0
STOPPED_WITHIN = 40.0


@dataclass(frozen=True)
class Reply:
    """An answer; `headers` by name as the server spelt it."""

    status: int
    headers: dict[str, str]
    body: bytes


class RouterProcess:
    """A router on `models` (YAML text by model name).

    `listen` are the values of `--listen`, `arguments` further ones; `ready` false enters the context as soon as the
    router listens; `program` is what is started instead of the real command line; `config` is an existing repository to
    use in place of one made from `models`.
    """

    def __init__(
        self,
        directory: Path,
        models: Mapping[str, str] | None = None,
        *,
        listen: Sequence[str] = ("127.0.0.1:0",),
        workers: int = 1,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        ready: bool = True,
        program: Sequence[str] = PROGRAM,
        config: Path | None = None,
        state: Path | None = None,
    ) -> None:
        self.directory = directory
        self.config = config or directory / "config"
        self.state = state or directory / "state"
        self._ready = ready
        self._log = directory / "router.log"
        self._argv = [*program, "serve", "--config", str(self.config), "--state", str(self.state)]
        self._argv += [f"--listen={address}" for address in listen]
        self._argv += ["--admin", "127.0.0.1:0", "--workers", str(workers), *arguments]
        own = {name: value for name, value in os.environ.items() if not name.startswith("CANARY_ROUTER_")}
        self._env = {**own, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.serving: dict[str, Any] = {}
        (self.config / "models").mkdir(parents=True, exist_ok=True)
        for model, text in (models or {}).items():
            self.edit(model, text)

    def __enter__(self) -> RouterProcess:
        try:
            self.start()
        except BaseException:
            self.kill_supervisor()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None or self.process.returncode is not None:
            return
        if kind is not None:
            self.kill_supervisor()
            return
        self.stop()

    @property
    def log(self) -> str:
        """Everything the router and its children printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self.process is not None
        return self.process.pid

    @property
    def admin(self) -> str:
        """URL of the admin port."""
        return str(self.serving["admin"])

    @property
    def url(self) -> str:
        """URL of the only listener."""
        (url,) = self.serving["listen"].values()
        return str(url)

    def url_in(self, region: str) -> str:
        """URL of the listener of `region`."""
        return str(self.serving["listen"][region])

    @property
    def token(self) -> str:
        """The admin token that the router made up."""
        return (self.state / "admin-token").read_text().strip()

    def start(self) -> None:
        """Starts it, on the same directories if it ran before, and waits until it is up (and ready)."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, cwd=ROOT
            )
        self._wait(self._is_up, UP_WITHIN, "listening")
        if self._ready:
            self._wait(lambda: self.get("/readyz")[0] == 200, READY_WITHIN, "ready")

    def _wait(self, condition: Callable[[], bool], within: float, what: str) -> None:
        assert self.process is not None
        deadline = time.monotonic() + within
        while not condition():
            assert self.process.poll() is None, f"the router ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"the router is not {what} within {within} s:\n{self.log}"
            time.sleep(0.02)

    def _is_up(self) -> bool:
        try:
            found = json.loads((self.state / "serving.json").read_text())
        except OSError:
            return False
        if found["pid"] != self.pid:
            return False
        self.serving = found
        return True

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a GET from the admin port; status 0 where nobody answers."""
        request = urllib.request.Request(self.admin + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def steer(self, model: str, action: str, token: str | None = None, **body: object) -> tuple[int, dict[str, Any]]:
        """Status and body of a command; status 0 where nobody answers."""
        request = urllib.request.Request(
            f"{self.admin}/api/v1/models/{model}/{action}",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {token or self.token}"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except (OSError, http.client.HTTPException):
            return 0, {}

    def model(self, name: str, region: str = "") -> dict[str, Any]:
        """`GET /api/v1/models/{name}`."""
        status, body = self.get(f"/api/v1/models/{name}" + (f"?region={region}" if region else ""))
        assert status == 200, (status, body)
        shown: dict[str, Any] = json.loads(body)
        return shown

    def predict(
        self, model: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None, region: str = ""
    ) -> Reply:
        """The answer to a POST to the model's canonical endpoint."""
        url = self.url_in(region) if region else self.url
        headers = {"content-type": "application/json", **(headers or {})}
        request = urllib.request.Request(f"{url}/models/{model}/invocations", body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=35) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def edit(self, model: str, text: str) -> None:
        """Writes a model's YAML by renaming a finished file, as git and careful editors do."""
        target = self.config / "models" / f"{model}.yaml"
        temporary = target.with_name(f".{model}.yaml.new")
        temporary.write_text(text)
        temporary.replace(target)

    def remove(self, model: str) -> None:
        """Removes a model's YAML."""
        (self.config / "models" / f"{model}.yaml").unlink()

    def children(self) -> dict[str, dict[str, Any]]:
        """What the supervisor says about each of its children, by name."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(str(Path(self.serving["run"]) / "supervisor.sock"))
            line = channel.makefile("rb").readline()
        return {child["name"]: child for child in json.loads(line)["children"]}

    def pids(self, prefix: str) -> list[int]:
        """Of the running children whose names begin with `prefix`: `control`, `worker-`, `pyfunc-`."""
        running = self.children().items()
        return [child["pid"] for name, child in running if name.startswith(prefix) and child["pid"]]

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends the child `name` a signal; returns the pid it had."""
        pid: int = self.children()[name]["pid"]
        os.kill(pid, number)
        return pid

    def wait_for_restart(self, name: str, before: int, deadline: float = 30.0) -> int:
        """The pid of `name` once it runs again under another one than `before`."""

        def again() -> int:
            child = self.children()[name]
            return child["pid"] if child["pid"] and child["pid"] != before else 0

        return eventually(again, deadline, f"{name} runs again")

    def send(self, number: int) -> None:
        """Sends the supervisor a signal."""
        os.kill(self.pid, number)

    def wait(self, within: float = 20.0) -> int:
        """The supervisor's exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(within)

    def stop(self) -> None:
        """Ends it with SIGTERM; asserts exit 0 and that none of its processes is left."""
        assert self.process is not None
        family = [child["pid"] for child in self.children().values() if child["pid"]]
        self.process.terminate()
        try:
            code = self.process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill_supervisor()
            raise AssertionError(f"the router did not stop within {STOPPED_WITHIN} s:\n{self.log}") from None
        assert code == 0, f"the router ended with {code}:\n{self.log}"
        left = [pid for pid in family if is_alive(pid)]
        assert not left, f"processes were left behind: {left}\n{self.log}"

    def kill_supervisor(self) -> None:
        """SIGKILL for the supervisor; its children see its lifeline end. Returns once all are gone."""
        if self.process is None or self.process.poll() is not None:
            return
        family: list[int] = []
        with contextlib.suppress(OSError, KeyError, ValueError):
            family = [child["pid"] for child in self.children().values() if child["pid"]]
        self.process.kill()
        self.process.wait(10)
        eventually(lambda: not any(is_alive(pid) for pid in family), 10, f"{family} ended with the supervisor")


def is_alive(pid: int) -> bool:
    """Whether process `pid` runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
