"""Model servers that close idle connections just when they are used again."""

from __future__ import annotations

from collections import Counter

from loadtest.faults.plan import Record
from loadtest.faults.stage import Stage, model, stage
from loadtest.faults.verdict import Verdict

PATHS = ("/models/safe/invocations", "/models/once/invocations")
POSTS = 20_000
CLOSED_WITHIN = 0.005


def reuse(rate: float) -> Verdict:
    """4: idle connections close 0–5 ms after an answer; 20 000 POSTs each, idempotent and not."""
    verdict = Verdict()
    with stage(model("safe"), model("once", idempotent="false")) as on:
        for server in on.all_servers:
            server.set(close_idle=CLOSED_WITHIN)
        records = on.load(rate, 2 * POSTS / rate, paths=PATHS).records()
        computed = _computed(on)
    for path, name in enumerate(("idempotent", "not idempotent")):
        mine = [record for record in records if record.path == path]
        share = sum(record.status == 502 for record in mine) / len(mine) * 100
        verdict.at_most(f"502, {name}", share, 0 if name == "idempotent" else 0.1, " %")
        verdict.at_most(f"other failures, {name}", sum(record.status not in (200, 502) for record in mine), 0)
        twice = [computed[_number] for _number in map(_key, mine) if computed[_number] > 1]
        if name == "idempotent":
            verdict.remarks["computed_twice_idempotent"] = len(twice)
        else:
            verdict.at_most(f"computed twice, {name}", len(twice), 0)
        verdict.remarks[f"posts_{name.replace(' ', '_')}"] = len(mine)
    verdict.at_most("ids that were computed and never sent", len(computed.keys() - set(map(_key, records))), 0)
    return verdict


def _key(record: Record) -> int:
    return record.number


def _computed(on: Stage) -> Counter[int]:
    """How often each request was computed, by its number."""
    total: Counter[int] = Counter()
    for server in on.all_servers:
        for name, count in server.report()["computed"].items():
            total[int(name.rsplit("-", 1)[1])] += count
    return total
