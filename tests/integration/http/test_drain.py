"""SIGTERM: listening stops, what is under way finishes, idle connections close, exit 0 (rule 18)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.core.outcome import OutcomeBatch
from router.core.snapshot import ModelRoute
from router.core.wire import Hello, SnapshotUpdate, decode, encode
from tests.support.dataplane import Client, Router, Wire, answer, model, post, request, target
from tests.support.stub_upstream import StubUpstream
from tests.support.wait import eventually


@dataclass
class Process:
    """A worker as the supervisor starts it. `lifeline` is the end that the supervisor would hold."""

    popen: subprocess.Popen[bytes]
    port: int
    lifeline: int
    clients: list[Client] = field(default_factory=list)

    def connect(self) -> Client:
        """A client's connection."""
        self.clients.append(Client(socket.create_connection(("127.0.0.1", self.port), timeout=5)))
        return self.clients[-1]

    def terminate(self) -> None:
        """What the supervisor does to drain."""
        self.popen.send_signal(signal.SIGTERM)

    def refuses(self) -> bool:
        """Whether nobody listens any more."""
        try:
            self.connect().close()
        except ConnectionError:
            return True
        return False


@contextmanager
def worker(run: Path, *models: ModelRoute, grace: float = 3.0) -> Iterator[Process]:
    """A worker process that starts from the snapshot that control left on disk."""
    run.mkdir(exist_ok=True)
    (run / "settings.json").write_text(json.dumps({"settings": {"trusted_proxies": [], "grace": grace}, "bound": {}}))
    (run / "snapshot.bin").write_bytes(encode(SnapshotUpdate(3, None, {route.model: route for route in models})))
    theirs, ours = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = ["--run", str(run), "--index", "0", "--lifeline", str(theirs)]
        popen = subprocess.Popen(
            [sys.executable, "-m", "router.dataplane", *arguments, "--listen", f"default={listener.fileno()}"],
            pass_fds=[theirs, listener.fileno()],
            stdin=subprocess.DEVNULL,
        )
    os.close(theirs)
    process = Process(popen, port, ours)
    try:
        with process.connect() as client:
            assert client.ask(request(b"GET", b"/v2/health/live"), "GET").status == 200
        yield process
    finally:
        for client in process.clients:
            client.close()
        os.close(process.lifeline)
        popen.wait(10)


def test_what_is_under_way_finishes_and_the_worker_exits_with_0(tmp_path: Path) -> None:
    with Wire() as wire, worker(tmp_path / "run", model(target("v3", wire))) as process:
        busy, idle = process.connect(), process.connect()
        assert idle.ask(request(b"GET", b"/v2/health/live"), "GET").status == 200
        busy.send(post())
        served, _ = wire.get()

        process.terminate()

        assert idle.ended()
        eventually(process.refuses)
        assert process.popen.poll() is None
        served.send(answer(b"finished"))
        response = busy.response()
        assert response.body == b"finished"
        assert response.header("connection") == "close"
        assert busy.ended()
        assert process.popen.wait(5) == 0
        assert served.ended()


def test_a_request_that_is_still_arriving_is_served_too(tmp_path: Path) -> None:
    with Wire() as wire, worker(tmp_path / "run", model(target("v3", wire))) as process:
        client = process.connect()
        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 5") + b"he")
        served = None

        process.terminate()
        eventually(process.refuses)
        client.send(b"llo")
        served, seen = wire.get()
        assert seen.body == b"hello"
        served.send(answer())

        assert client.response().header("connection") == "close"
        assert process.popen.wait(5) == 0


def test_what_does_not_finish_is_given_up_after_the_grace_time(tmp_path: Path) -> None:
    with Wire() as wire, worker(tmp_path / "run", model(target("v3", wire)), grace=1.0) as process:
        client = process.connect()
        client.send(post())
        wire.get()
        before = time.monotonic()

        process.terminate()

        assert process.popen.wait(5) == 0
        assert 0.5 < time.monotonic() - before < 3.5
        client.gone()


def test_the_last_outcomes_reach_control(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(tmp_path / "run" / "workers.sock"))
    control.listen()
    control.settimeout(5)
    with control, Wire() as wire, worker(tmp_path / "run", model(target("v3", wire))) as process:
        link, _ = control.accept()
        link.settimeout(5)
        stream = Client(link)

        def message() -> object:
            return decode(stream.exactly(int.from_bytes(stream.exactly(4), "big")))

        assert isinstance(message(), Hello)
        client = process.connect()
        client.send(post())
        served, _ = wire.get()
        process.terminate()
        eventually(process.refuses)
        served.send(answer())
        assert client.response().status == 200
        counts: list[object] = []
        while not counts:
            got = message()
            assert isinstance(got, OutcomeBatch)
            counts = [arm.counts for arm in got.arms]
        assert counts == [((200, "ok", True, 1),)]
        assert process.popen.wait(5) == 0
        stream.close()


READY = request(b"GET", b"/v2/health/ready")


def test_a_worker_that_is_told_of_the_end_is_not_ready_and_serves_on(tmp_path: Path) -> None:
    with StubUpstream() as stub, worker(tmp_path / "run", model(target("v3", stub))) as process:
        before = process.connect()
        assert before.ask(READY, "GET").status == 200

        process.popen.send_signal(signal.SIGUSR1)

        eventually(lambda: before.ask(READY, "GET").status == 503, 1)
        for client in (before, process.connect()):
            assert client.ask(request(b"GET", b"/v2/health/live"), "GET").status == 200
            response = client.ask(post())
            assert response.status == 200
            assert response.header("connection") is None
        process.terminate()
        assert process.popen.wait(5) == 0


def test_a_worker_that_starts_while_the_router_ends_is_not_ready(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "draining").touch()
    with StubUpstream() as stub, worker(run, model(target("v3", stub))) as process:
        client = process.connect()
        assert client.ask(READY, "GET").status == 503
        assert client.ask(post()).status == 200
        process.terminate()
        assert process.popen.wait(5) == 0


def test_sigint_is_the_supervisors_matter(tmp_path: Path) -> None:
    with worker(tmp_path / "run") as process:
        process.popen.send_signal(signal.SIGINT)

        with process.connect() as client:
            assert client.ask(request(b"GET", b"/v2/health/live"), "GET").status == 200
        process.terminate()
        assert process.popen.wait(5) == 0


def test_a_worker_ends_with_its_supervisor(tmp_path: Path) -> None:
    with worker(tmp_path / "run") as process:
        os.close(process.lifeline)
        process.lifeline = os.open(os.devnull, os.O_RDONLY)

        assert process.popen.wait(5) == 1


def test_a_restarted_worker_gives_canaries_nothing_before_control_speaks(tmp_path: Path) -> None:
    with StubUpstream() as stub, StubUpstream() as canary:
        both = model(target("v3", stub), target("v4", canary, weight=9000), sticky_header="x-key")
        with worker(tmp_path / "run", both) as process, process.connect() as client:
            for number in range(50):
                response = client.ask(post(b"{}", b"x-key: %d" % number))
                assert response.header("x-model-version") == "v3"
            process.terminate()
        assert not canary.requests


def test_pipelined_requests_behind_the_one_under_way_are_not_begun(tmp_path: Path) -> None:
    with Wire() as wire, Router(tmp_path) as router:
        router.serve(model(target("v3", wire)))
        client = router.connect()
        client.send(post(b"1") + post(b"2"))
        served, _ = wire.get()
        stopping = threading.Thread(target=router.loop.call_soon_threadsafe, args=(router.worker.stop,))
        stopping.start()
        stopping.join()
        eventually(lambda: router.worker.draining)
        served.send(answer())

        assert client.response().header("connection") == "close"
        assert client.ended()
        client.close()
        assert served.ended()


@pytest.mark.parametrize("waiting", [True, False])
def test_a_worker_that_has_no_snapshot_yet_can_be_stopped(tmp_path: Path, waiting: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED_EARLY, str(tmp_path), str(int(waiting))], stdin=subprocess.DEVNULL
    )
    assert process.wait(10) == 0


STOPPED_EARLY = """
import asyncio, socket, sys
from pathlib import Path
from router.dataplane.worker import Worker, WorkerConfig

async def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = Worker(WorkerConfig(Path(sys.argv[1]), 0, {"default": listener}), asyncio.get_running_loop())
        if sys.argv[2] == "1":
            asyncio.get_running_loop().call_later(0.1, worker.stop)
        else:
            worker.stop()
        await asyncio.wait_for(worker.run(), 5)

asyncio.run(main())
"""
