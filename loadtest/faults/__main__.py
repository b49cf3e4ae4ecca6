"""`python -m loadtest.faults [NAME …]`: what must hold when something breaks, each fault against a real router.

Saturation is measured first; each fault is offered half of it, or what the generator can still send on time. Prints a
line per fault, writes all figures to loadtest/results/faults.json, and exits 1 where a bound was not kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.faults.clients import leaving, slow
from loadtest.faults.endpoints import hung, killed, unavailable
from loadtest.faults.ends import drain, worker_killed
from loadtest.faults.names import names
from loadtest.faults.overload import overload
from loadtest.faults.plan import quantile
from loadtest.faults.reuse import reuse
from loadtest.faults.stage import model, stage
from loadtest.faults.verdict import Verdict

SCENARIOS: dict[str, Callable[[float], Verdict]] = {
    "killed": killed,
    "hung": hung,
    "leaving": leaving,
    "reuse": reuse,
    "unavailable": unavailable,
    "overload": overload,
    "slow": slow,
    "drain": drain,
    "worker-killed": worker_killed,
    "names": names,
}
RESULTS = Path("loadtest/results/faults.json")
ON_TIME = 0.005
"""How late the generator may send one request in a hundred, in seconds."""
MOST = 3000.0
"""More would fill the machine with the generator and the model servers, which share its cores with the router."""


def saturation() -> tuple[float, float]:
    """Requests per second that a worker answers at most, and how many to offer."""
    with stage(model("bench")) as on:
        ramp = [len(on.load(0, 1.5, closed=clients).records()) / 1.5 for clients in (8, 32, 128)]
        rate = min(MOST, max(ramp) / 2)
        while True:
            records = on.load(rate, 1.5).records()
            late = quantile((record.sent - record.scheduled for record in records), 0.99)
            if late <= ON_TIME or rate < 300:
                return max(ramp), rate
            rate *= 0.7


def play(name: str, rate: float) -> dict[str, Any]:
    """Runs one fault and prints its line."""
    start = time.monotonic()
    verdict, error = Verdict(), ""
    try:
        verdict = SCENARIOS[name](rate)
    except Exception:  # noqa: BLE001 - the other faults are still to be played, and this one has failed
        error = traceback.format_exc()
    held = verdict.held and not error
    took = time.monotonic() - start
    figures = "; ".join(map(str, verdict.figures)) or error.strip().rpartition("\n")[2]
    print(f"{'PASS' if held else 'FAIL'}  {name:<14} {took:4.0f} s  {figures}", flush=True)
    return {
        "held": held,
        "seconds": took,
        "figures": [{**asdict(figure), "held": figure.held} for figure in verdict.figures],
        "remarks": verdict.remarks,
        "error": error,
    }


def main() -> int:
    """Plays the faults that were asked for."""
    parser = argparse.ArgumentParser(prog="loadtest.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or several of: {', '.join(SCENARIOS)}")
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args()
    if unknown := set(args.names) - set(SCENARIOS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are: {', '.join(SCENARIOS)}")
    most, rate = saturation()
    print(f"saturation {most:.0f} requests/s with one worker; offered {rate:.0f}", flush=True)
    played = {name: play(name, rate) for name in args.names or SCENARIOS}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"saturation_rps": most, "offered_rps": rate, "faults": played}, indent=2))
    return 0 if all(each["held"] for each in played.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
