"""Clients that go away, and clients that are slow on purpose."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

from loadtest.faults.endpoints import settled
from loadtest.faults.plan import between, p99, usual_p99
from loadtest.faults.stage import ROOT, Stage, model, stage
from loadtest.faults.verdict import Verdict
from loadtest.rig import need, pss_mb

LEAVERS, LEAVERS_PER_SECOND = 50_000, 2500
PATH = ("/models/safe/invocations",)
LONGEST_LIMIT = 30.0
"""Of the limits on slow clients, in seconds: for a response that is not read."""


def leaving(rate: float) -> Verdict:
    """3: 50 000 clients go away at random moments, beside good traffic."""
    verdict = Verdict()
    with stage(model("safe")) as on:
        for server in on.all_servers:
            server.set(delay=0.02)
        before = on.held()
        memory = pss_mb(on.workers()[0])
        load = on.load(min(rate, 500), 300, paths=PATH)
        command = [sys.executable, "-m", "loadtest.faults.leaver", str(on.port), str(LEAVERS), str(LEAVERS_PER_SECOND)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200, check=True)
        load.stop()
        good = load.records()
        left = settled(on, before)
        after = on.load(2000, 1, paths=PATH).records()
        verdict.remarks |= {"memory_mb": [memory, pss_mb(on.workers()[0])], "good": len(good)}
        verdict.remarks |= {
            "failures": [[record.status, record.error, record.latency] for record in good if record.failed]
        }
    verdict.at_most("clients that could not connect", done.stdout.count("\n"), 0)
    for name, (was, now) in left.items():
        verdict.at_most(f"{name} afterwards", now, was)
    verdict.at_most("failures beside them", sum(record.failed for record in good), 0)
    verdict.at_most(f"failures of the next {len(after)}", sum(record.failed for record in after), 0)
    return verdict


ATTACKS = {
    "slow-header": ("-H", "-c", "400", "-r", "200", "-i", "5"),
    "slow-body": ("-B", "-c", "400", "-r", "200", "-i", "5", "-s", "8192"),
    "slow-read": ("-X", "-c", "200", "-r", "25", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"),
}
RAMP = 8.0


def slow(rate: float) -> Verdict:
    """7: 1 000 slow-header, slow-body and slow-read connections (slowhttptest)."""
    need("slowhttptest")
    verdict = Verdict()
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(stage(model("safe", timeout="5s", attempt_timeout="5s")))
        for server in on.all_servers:
            server.set(delay=0.02)
        before = on.held()
        clients = on.load(min(rate, 1000), 300, paths=PATH)
        time.sleep(6)
        start = time.monotonic()
        attackers = {name: _attack(on, name, options) for name, options in ATTACKS.items()}
        stack.callback(_end, attackers)
        peak, ended = _watch(on, attackers, start + RAMP + LONGEST_LIMIT + 2)
        clients.stop()
        records = clients.records()
        left = settled(on, before, 5)
    usual = usual_p99(records, start - 5, start)
    meanwhile = usual_p99(records, start, start + RAMP + LONGEST_LIMIT)
    verdict.at_least("descriptors at once", peak, 800)
    verdict.at_most("good traffic's p99 against before", meanwhile / usual, 2, "×")
    verdict.at_most("failures of good traffic", sum(record.failed for record in records), 0)
    for name, (was, now) in left.items():
        verdict.at_most(f"{name} left after the limits", now, was)
    seconds = [p99(between(records, start + second, start + second + 1)) * 1e3 for second in range(-5, 40)]
    verdict.remarks |= {"p99_by_second_ms": [round(each) for each in seconds]}
    whole = p99(between(records, start, start + RAMP + LONGEST_LIMIT))
    verdict.remarks |= {"p99_before_ms": usual * 1e3, "p99_of_the_whole_time_ms": whole * 1e3}
    verdict.remarks |= {"attackers_gave_up_after_s": ended}
    return verdict


def _watch(on: Stage, attackers: dict[str, subprocess.Popen[bytes]], until: float) -> tuple[int, dict[str, float]]:
    """The most descriptors at once until then, and after how long each attacker had no connection left."""
    start, peak = time.monotonic(), 0
    ended: dict[str, float] = {}
    while time.monotonic() < until:
        peak = max(peak, on.descriptors())
        for name, attacker in attackers.items():
            if attacker.poll() is not None:
                ended.setdefault(name, time.monotonic() - start)
        time.sleep(0.25)
    return peak, ended


def _attack(on: Stage, name: str, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    path = "large" if name == "slow-read" else "invocations"
    url = f"http://127.0.0.1:{on.port}/models/safe/{path}"
    # Once its connections are cut it spins, which must not be taken for what its connections cost.
    command = ["nice", "-n", "19", "slowhttptest", *options, "-l", "120", "-u", url, "-v", "1", "-x", "10"]
    with (on.folder / f"{name}.txt").open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=on.folder)


def _end(attackers: dict[str, subprocess.Popen[bytes]]) -> None:
    for attacker in attackers.values():
        attacker.kill()
        attacker.wait(10)
