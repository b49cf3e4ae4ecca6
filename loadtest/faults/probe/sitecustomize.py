"""Lets a load test count what lives in a router's worker: loaded by Python at its start where PYTHONPATH leads here.

Rules:
1. On SIGUSR2 a process writes `<FAULTS_PROBE>/<pid>.json`: its unfinished tasks, and how many connections, exchanges
   and pools it holds. Nothing happens otherwise, and nothing at all without FAULTS_PROBE.
2. Written to a temporary file and renamed: whoever reads it reads it whole.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path

NAMES = ("ClientConnection", "Exchange", "UpstreamConnection", "Pool")


def census(*_: object) -> None:
    """Counts and writes."""
    gc.collect()
    counts = Counter(type(thing).__name__ for thing in gc.get_objects())
    found = {name: counts[name] for name in NAMES}
    found["tasks"] = sum(not task.done() for task in list(asyncio.tasks._all_tasks))  # type: ignore[attr-defined]  # there is no public way from outside the loop
    target = Path(os.environ["FAULTS_PROBE"]) / f"{os.getpid()}.json"
    target.with_suffix(".new").write_text(json.dumps(found))
    target.with_suffix(".new").replace(target)


if "FAULTS_PROBE" in os.environ:
    signal.signal(signal.SIGUSR2, census)
