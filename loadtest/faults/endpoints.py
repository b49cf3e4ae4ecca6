"""Endpoints that die, hang, or answer nothing but 503."""

from __future__ import annotations

import time
from collections.abc import Iterable

from loadtest.faults.plan import Record, between, p99, quantile, usual_p99
from loadtest.faults.stage import Stage, model, pause_until, stage, wait_for
from loadtest.faults.verdict import Verdict

PATHS = ("/models/safe/invocations", "/models/once/invocations")
SAFE, ONCE = 0, 1
SERVICE = 0.02
"""What a prediction takes, in seconds: a ratio of latencies then says more of the router than of the machine."""


def _of(records: Iterable[Record], path: int) -> list[Record]:
    return [record for record in records if record.path == path]


def _failed(records: Iterable[Record]) -> int:
    return sum(record.failed for record in records)


def killed(rate: float) -> Verdict:
    """1: one of stable's two endpoints is killed with SIGKILL, and comes back."""
    verdict = Verdict()
    with stage(model("safe"), model("once", idempotent="false")) as on:
        for server in on.all_servers:
            server.set(delay=0.01)
        load = on.load(rate, 40, paths=PATHS)
        victim = on.servers["v3"][0]
        time.sleep(3)
        victim.kill()
        dead = time.monotonic()
        ejected = wait_for(lambda: on.metric("canary_router_ejected_endpoints") > 0, 10, "the endpoint is ejected")
        pause_until(dead + 3)
        victim.start()
        back = wait_for(lambda: victim.report()["received"] > 0, 30, "the endpoint is used again")
        time.sleep(1)
        load.stop()
        records = load.records()
    once = [record for record in _of(records, ONCE) if record.failed]
    under_way = sum(record.sent <= dead <= record.done for record in _of(records, ONCE))
    verdict.at_most("failures, idempotent", _failed(_of(records, SAFE)), 0)
    verdict.at_most("failures, not idempotent, sent after the kill", sum(r.sent > dead for r in once), 0)
    verdict.at_most("failures, not idempotent, in flight at the kill", sum(r.sent <= dead for r in once), under_way)
    verdict.at_most("ejected after", ejected, 2, " s")
    verdict.at_most("used again after its return", back, 12, " s")
    verdict.remarks |= {"requests": len(records)}
    return verdict


def hung(rate: float) -> Verdict:
    """2: one of the canary's two endpoints accepts connections and never answers."""
    verdict = Verdict()
    with stage(model("safe", canary=20, more="fallback: stable"), model("once", canary=20, idempotent="false")) as on:
        before_all = on.held()
        for server in on.all_servers:
            server.set(delay=SERVICE)
        load = on.load(rate, 60, paths=PATHS)
        started = time.monotonic()
        pause_until(started + 6)
        on.servers["v4"][0].set(hang=True)
        hangs = time.monotonic()
        pause_until(hangs + 6)
        load.stop()
        records = load.records()
        left = settled(on, before_all)
    affected = between(records, hangs - 0.5, hangs + 60)
    stable = [record for record in _of(records, ONCE) if record.version == "v3"]
    usual = usual_p99(stable, started + 1, hangs)
    meanwhile = usual_p99(stable, hangs, hangs + 6)
    verdict.at_most("answers that are neither 200 nor 504", sum(r.status not in (200, 504) for r in affected), 0)
    verdict.at_most("slowest answer", max(record.latency for record in affected), 2.1, " s")
    verdict.at_most("failures where stable may stand in", _failed(_of(affected, SAFE)), 0)
    verdict.at_most("stable's p99 against before", meanwhile / usual, 1.2, "×")
    for name, (before, after) in left.items():
        verdict.at_most(f"{name} afterwards", after, before)
    seconds = [p99(between(stable, hangs + second, hangs + second + 1)) * 1e3 for second in range(-5, 6)]
    verdict.remarks |= {"stable_p99_by_second_ms": [round(each, 1) for each in seconds]}
    verdict.remarks |= {"stable_p99_before_ms": usual * 1e3, "504": sum(r.status == 504 for r in affected)}
    verdict.remarks |= {"answered_by_canary": sum(record.version == "v4" for record in affected)}
    return verdict


def settled(on: Stage, before: dict[str, int], within: float = 10.0) -> dict[str, tuple[int, int]]:
    """What is held before and now, once it is no more than before or the time is up. Idle connections last 3 s."""
    end = time.monotonic() + within
    while True:
        now = on.held()
        if time.monotonic() > end or all(now[name] <= before[name] for name in before):
            return {name: (before[name], now[name]) for name in before if name != "Pool"}
        time.sleep(0.5)


def unavailable(rate: float) -> Verdict:
    """5: every endpoint answers 503 for a while."""
    verdict = Verdict()
    with stage(model("safe", canary=50)) as on:
        load = on.load(rate, 60, paths=PATHS[:1])
        time.sleep(2)
        start = time.monotonic()
        before = sum(server.report()["received"] for server in on.all_servers)
        for server in on.all_servers:
            server.set(status=503)
        pause_until(start + 7)
        attempts = sum(server.report()["received"] for server in on.all_servers) - before
        end = time.monotonic()
        for server in on.all_servers:
            server.set(status=200)
        recovered = time.monotonic()
        pause_until(recovered + 6)
        load.stop()
        records = load.records()
    offered = len(between(records, start, end))
    # Three a second for each of the two versions, and as many in hand when it began.
    floor = 2 * 3 * (end - start + 1)
    last = max((record.scheduled for record in records if record.failed), default=recovered)
    verdict.at_most("attempts per request offered", (attempts - floor) / offered, 1.2)
    verdict.at_most("normal again after", max(0.0, last - recovered), 5, " s")
    verdict.at_most(
        "p99 of the failures", quantile((r.latency for r in between(records, start, end)), 0.99) * 1e3, 1000, " ms"
    )
    verdict.remarks |= {"offered": offered, "attempts": attempts, "floor": floor}
    return verdict
