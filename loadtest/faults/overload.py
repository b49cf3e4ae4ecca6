"""Three times more requests than the model servers can answer."""

from __future__ import annotations

import time
import urllib.request

from loadtest.faults.plan import Record, between, quantile
from loadtest.faults.stage import Stage, model, stage
from loadtest.faults.verdict import Verdict

PATH = ("/models/safe/invocations",)
SERVICE, SLOTS = 0.02, 8
FACTOR = 3
SECONDS = 10.0
PAGES = ("/livez", "/readyz", "/metrics", "/api/v1/models")


def overload(_rate: float) -> Verdict:
    """6: offered three times what the model servers can do (20 ms each, 8 slots)."""
    verdict = Verdict()
    with stage(model("safe", canary=1)) as on:
        for server in on.all_servers:
            server.set(delay=SERVICE, slots=SLOTS)
        peak = len(_good(on.load(0, 3, paths=PATH, closed=2 * SLOTS * 2).records())) / 3
        load = on.load(FACTOR * peak, SECONDS, paths=PATH, connections=20_000)
        start = time.monotonic()
        admin = _admin_latencies(on, start + SECONDS - 1)
        records = load.records()
    measured = between(records, start, start + SECONDS)
    good = _good(measured)
    rest = [record for record in measured if record.status != 200]
    shed = [record for record in rest if record.status == 503 and record.latency <= 0.05]
    span = max(record.scheduled for record in measured) - min(record.scheduled for record in measured)
    verdict.at_least("goodput against peak", len(good) / span / peak * 100, 80, " %")
    verdict.at_least("of the rest, 503 within 50 ms", len(shed) / max(1, len(rest)) * 100, 99, " %")
    verdict.at_most("admin p99", quantile(admin, 0.99) * 1e3, 200, " ms")
    verdict.remarks |= {
        "peak_rps": peak,
        "offered_rps": len(measured) / span,
        "good_p50_ms": quantile((record.latency for record in good), 0.5) * 1e3,
        "good_p99_ms": quantile((record.latency for record in good), 0.99) * 1e3,
        "shed_p99_ms": quantile((record.latency for record in rest), 0.99) * 1e3,
        "rest_by_status": {str(code): sum(r.status == code for r in rest) for code in {r.status for r in rest}},
        "generator_late_p99_ms": quantile((record.sent - record.scheduled for record in measured), 0.99) * 1e3,
    }
    return verdict


def _good(records: list[Record]) -> list[Record]:
    return [record for record in records if record.status == 200]


def _admin_latencies(on: Stage, until: float) -> list[float]:
    found: list[float] = []
    while time.monotonic() < until:
        asked = time.monotonic()
        with urllib.request.urlopen(on.admin + PAGES[len(found) % len(PAGES)], timeout=5) as response:
            response.read()
        found.append(time.monotonic() - asked)
        time.sleep(0.04)
    return found
