"""A name that moves to another address under load, and then cannot be resolved at all."""

from __future__ import annotations

import json
import time

from loadtest.faults.stage import HOSTS, Stage, Upstream, model, pause_until, stage, wait_for
from loadtest.faults.verdict import Verdict

NAME = "v3.bench.test"
OLD, NEW = "127.0.0.1", "127.0.0.2"
PATH = ("/models/once/invocations",)


def names(rate: float) -> Verdict:
    """10: the name of a version's only server moves to another address; later no name can be resolved."""
    verdict = Verdict()
    old = Upstream(host=OLD)
    new = Upstream(old.port, host=NEW)
    try:
        once = model("once", canary=0, idempotent="false", v3=f'"http://{NAME}:{old.port}"')
        with stage(once, hosts={NAME: OLD}) as on:
            for server in (old, new):
                server.set(delay=0.01)
            load = on.load(min(rate, 1000), 60, paths=PATH)
            pause_until(time.monotonic() + 3)
            _resolve(on, {NAME: NEW})
            moved = wait_for(lambda: new.report()["received"] > 0, 20, "the new address is used")
            # What was under way at the old address has ended long before.
            pause_until(time.monotonic() + 1)
            left = old.report()["received"]
            old.kill()
            _resolve(on, {})
            pause_until(time.monotonic() + 12)
            load.stop()
            records = load.records()
            still = new.report()["received"]
    finally:
        old.kill()
        new.kill()
    verdict.at_most("failures, not idempotent", sum(record.failed for record in records), 0)
    verdict.at_most("the new address used after", moved, 7, " s")
    verdict.at_least("requests at the new address", still, (len(records) - left) * 0.99)
    verdict.remarks |= {"requests": len(records), "at_the_old_address": left, "at_the_new_one": still}
    return verdict


def _resolve(on: Stage, hosts: dict[str, str]) -> None:
    """From now on names resolve so, in every process of the router."""
    temporary = on.folder / f"{HOSTS}.new"
    temporary.write_text(json.dumps(hosts))
    temporary.replace(on.folder / HOSTS)
