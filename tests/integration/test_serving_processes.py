"""The processes of one version: what a prediction that hangs, dies or takes too much costs the others, and memory."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from router.config.serving import AS_USUAL, Serving
from router.serving import spec
from tests.integration.test_serving import Served, below
from tests.support.wait import eventually

SLEEPS, SPINS, DIES, TAKES, WHO = -1.0, -2.0, -3.0, -4.0, -5.0
MEMORY = 256 * 1024**2


def started(root: Path, model: Path, serving: Serving) -> Iterator[Served]:
    """A server that ends with the tests that use it."""
    served = Served(root / "s", model, serving)
    served.wait_until_ready()
    yield served
    served.close()


@pytest.fixture(scope="module")
def wild(serving_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model whose input says how it behaves, in one process."""
    serving = Serving(max_rows=64, memory=MEMORY)
    yield from started(tmp_path_factory.mktemp("wild"), serving_models / "wild", serving)


@pytest.fixture(scope="module")
def twice(serving_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same in two processes."""
    yield from started(tmp_path_factory.mktemp("twice"), serving_models / "wild", Serving(processes=2))


def ask(served: Served, x: float, timeout: int = 20_000) -> httpx.Response:
    """One prediction on a connection of its own; `timeout` in milliseconds."""
    with served.client() as client:
        return client.post("/invocations", json={"inputs": {"x": [x]}}, headers={"x-request-timeout": f"{timeout}ms"})


def serving(served: Served) -> list[int]:
    """The processes that serve, not the two above them."""
    return below(served.process.pid)[1:]


@pytest.mark.parametrize("how", [SLEEPS, SPINS])
def test_a_prediction_that_hangs_is_given_up_and_the_others_are_answered(wild: Served, how: float) -> None:
    before = serving(wild)
    for x in range(20):
        # From now on it is known to be quick, and predicted on the loop.
        assert ask(wild, float(x)).status_code == 200
    with ThreadPoolExecutor(8) as others:
        stuck = others.submit(ask, wild, how, 3_000)
        calm: list[Future[httpx.Response]] = [others.submit(ask, wild, float(x)) for x in range(7)]
        assert [each.result().json()["predictions"] for each in calm] == [[float(x)] for x in range(7)]
        assert stuck.result().status_code == 504
    eventually(lambda: not set(before) & set(serving(wild)), what="the process that hung is gone")
    assert ask(wild, 1.0).json() == {"predictions": [1.0]}


def test_too_much_memory_is_one_failure_and_no_more(wild: Served) -> None:
    ask(wild, 1.0)
    before = serving(wild)
    assert ask(wild, TAKES).status_code == 500
    assert ask(wild, 1.0).status_code == 200
    assert serving(wild) == before


def test_a_process_that_dies_is_replaced_and_the_other_serves_on(twice: Served) -> None:
    before = serving(twice)
    assert len(before) == 2
    with pytest.raises(httpx.TransportError):
        ask(twice, DIES)
    assert ask(twice, 1.0).status_code == 200
    eventually(lambda: len(serving(twice)) == 2 and serving(twice) != before, what="two serve again")


def test_connections_are_shared_out(twice: Served) -> None:
    # One that was just forked takes none before it has warmed up, and a busy machine may deal one wrong.
    eventually(lambda: dealt(twice) == [4, 4], 30, "eight connections are dealt out")


def dealt(served: Served) -> list[int]:
    """How many of eight connections each process gets."""
    clients = [served.client() for _ in range(8)]
    try:
        answers = [client.post("/invocations", json={"inputs": {"x": [WHO]}}) for client in clients]
    finally:
        for client in clients:
            client.close()
    said = [answer.json()["predictions"][0] for answer in answers]
    return sorted(said.count(float(pid)) for pid in serving(served))


def test_a_second_process_shares_the_model(twice: Served) -> None:
    eventually(lambda: len(serving(twice)) == 2, what="two serve")
    for x in range(50):
        ask(twice, float(x))
    assert max(private_memory(pid) for pid in serving(twice)) < 60 * 1024**2


def private_memory(pid: int) -> int:
    """Bytes that only this process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def test_a_crash_loop_is_given_up_with_its_reason(serving_models: Path, tmp_path: Path) -> None:
    for served in started(tmp_path, serving_models / "wild", AS_USUAL):
        deadline = time.monotonic() + 60
        while served.process.poll() is None:
            assert time.monotonic() < deadline, "it never gives up"
            for pid in serving(served):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        told = json.loads(spec.fault_of(served.socket).read_text())
        assert served.process.returncode == 3
        assert told["error"] == "the model's process ended: killed by SIGKILL, 5 times in a row"
        assert not served.socket.exists()


def test_none_outlives_the_one_above_it(serving_models: Path, tmp_path: Path) -> None:
    for served in started(tmp_path, serving_models / "wild", AS_USUAL):
        all_of_them = below(served.process.pid)
        served.process.kill()
        served.process.wait()
        eventually(partial(none_is_there, all_of_them), what="all have ended")


def none_is_there(pids: list[int]) -> bool:
    """Whether all of `pids` have ended."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)
