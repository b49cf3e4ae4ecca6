"""Lets a load test look into a router's processes: loaded by Python at its start where PYTHONPATH leads here.

Rules:
1. On SIGUSR2 a process writes `<FAULTS_PROBE>/<pid>.json`: its unfinished tasks, and how many connections, exchanges
   and pools it holds. Nothing happens otherwise, and nothing at all without FAULTS_PROBE.
2. Written to a temporary file and renamed: whoever reads it reads it whole.
3. Names that end in `.test` resolve as `<FAULTS_PROBE>/hosts.json` says at that moment, and to nothing otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Any

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


def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
    """`socket.getaddrinfo` with rule 3."""
    if isinstance(host, str) and host.endswith(".test"):
        hosts = json.loads((Path(os.environ["FAULTS_PROBE"]) / "hosts.json").read_text())
        if host not in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        host = hosts[host]
    return _resolve(host, *arguments, **named)


_resolve = socket.getaddrinfo

if "FAULTS_PROBE" in os.environ:
    socket.getaddrinfo = resolve
    signal.signal(signal.SIGUSR2, census)
