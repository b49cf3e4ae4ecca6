"""A quick selection of the faults that `python -m loadtest.faults` plays at length, with the same bounds where time
plays no part in them.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from loadtest.faults.endpoints import ONCE, PATHS, SAFE, settled
from loadtest.faults.names import names
from loadtest.faults.plan import Record
from loadtest.faults.stage import ROOT, Load, Stage, Upstream, model, stage, wait_for

MODELS = (model("safe", more="fallback: stable", canary=20), model("once", canary=20, idempotent="false"))


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    """One router for all: what a fault leaves behind (an endpoint left out, say) must not hurt the next one."""
    with stage(*MODELS) as on:
        yield on


@pytest.fixture
def on(shared: Stage) -> Iterator[Stage]:
    """The router, with model servers that behave."""
    yield shared
    for server in shared.all_servers:
        server.set(status=200, hang=False, delay=0.0, slots=0, close_idle=None)


def failures(records: list[Record], path: int) -> list[Record]:
    return [record for record in records if record.path == path and record.failed]


def enough(server: Upstream, more: int) -> None:
    """Waits until `server` has got `more` requests."""
    before = server.report()["received"]
    wait_for(lambda: server.report()["received"] >= before + more, 20, f"{more} requests")


def finish(load: Load) -> list[Record]:
    load.stop()
    records = load.records()
    assert records
    return records


def test_a_killed_endpoint_costs_no_more_than_what_it_had_under_way(on: Stage) -> None:
    victim, other = on.servers["v3"]
    for server in (victim, other):
        server.set(delay=0.02)
    load = on.load(300, 60, paths=PATHS)
    enough(other, 50)
    try:
        victim.kill()
        enough(other, 150)
        records = finish(load)
    finally:
        victim.start()

    assert not failures(records, SAFE)
    (broke_off,) = {round(record.done, 0) for record in failures(records, ONCE)} or {0.0}
    assert all(record.sent <= broke_off + 1 for record in failures(records, ONCE)), "none but at that moment"


def test_an_endpoint_that_hangs_is_stood_in_for(on: Stage) -> None:
    hung, other = on.servers["v4"]
    hung.set(hang=True)
    load = on.load(150, 60, paths=PATHS)
    enough(other, 50)
    records = finish(load)

    assert not failures(records, SAFE)
    assert {record.status for record in failures(records, ONCE)} <= {504}


def test_an_outage_is_not_made_worse_by_retries(on: Stage) -> None:
    before = Counter({id(server): server.report()["received"] for server in on.all_servers})
    for server in on.all_servers:
        server.set(status=503)
    records = on.load(300, 1, paths=("/models/once/invocations",)).records()
    attempts = sum(server.report()["received"] - before[id(server)] for server in on.all_servers)

    assert {record.status for record in records} == {503}
    assert attempts == len(records), "nothing is tried twice without `idempotent`"

    for server in on.all_servers:
        server.set(status=200)
    assert not [record for record in on.load(300, 1, paths=PATHS).records() if record.failed]


def test_servers_that_close_idle_connections_early_compute_nothing_twice(on: Stage) -> None:
    for server in on.all_servers:
        server.set(close_idle=0.005)
    before = {name for server in on.all_servers for name in server.report()["computed"]}
    records = on.load(700, 2, paths=PATHS).records()
    computed: Counter[str] = Counter()
    for server in on.all_servers:
        computed.update({name: n for name, n in server.report()["computed"].items() if name not in before})

    assert not failures(records, SAFE)
    assert {record.status for record in failures(records, ONCE)} <= {502}
    assert not [name for name, n in computed.items() if n > 1 and int(name.rsplit("-", 1)[1]) % 2 == ONCE]


def test_clients_that_leave_take_everything_along(on: Stage) -> None:
    before = on.held()
    command = [sys.executable, "-m", "loadtest.faults.leaver", str(on.port), "600", "600"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)

    assert done.stdout == ""
    assert all(now <= was for was, now in settled(on, before).values())
    assert not [record for record in on.load(500, 0.5, paths=PATHS).records() if record.failed]


def test_what_cannot_be_answered_in_time_is_refused_at_once(on: Stage) -> None:
    for server in on.all_servers:
        server.set(delay=0.05, slots=4)
    records = on.load(900, 3, paths=PATHS).records()
    statuses = Counter(record.status for record in records)

    assert statuses.keys() <= {200, 503, 504}
    assert statuses[503] > statuses[504]
    assert statuses[200] > 480, "half of what the servers can do"


@pytest.mark.slow
def test_a_name_that_moves_and_then_is_gone_costs_nothing() -> None:
    verdict = names(200)
    assert verdict.held, "; ".join(map(str, verdict.figures))
