"""The page about the router itself: its processes, where its configs come from, its store, what it costs.

Rules:
1. Memory is read from the kernel, in a thread; a process that is gone has none.
2. What is not known here is not shown.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from router import __version__
from router.web.dashboard.context import Context
from router.web.dashboard.figures import WINDOWS

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


async def page(context: Context) -> dict[str, Any]:
    """What the page shows, for its template."""
    control = context.control
    children = sorted(control.children.known.values(), key=lambda child: child.name)
    pids = {child.pid for child in children if child.pid}
    memory = await asyncio.to_thread(_memory, {*pids, os.getpid()})
    figures = context.figures(list(control.totals.tallies), WINDOWS["5m"])
    overhead, recorder = figures.overhead, control.helm.recorder
    ready, why, missing = control.ready()
    wanted = _models_of_children(context)
    return {
        "version": __version__,
        "ready": ready,
        "why": why,
        "missing": missing,
        "workers": _workers(context),
        "wanted_workers": control.setup.workers,
        "children": [
            {"child": child, "memory": memory.get(child.pid or 0), "serves": wanted.get(child.name, "")}
            for child in children
        ],
        "control_memory": memory.get(os.getpid()),
        "config": {
            "place": str(control.setup.config),
            "revision": control.reloads.revision,
            "at": control.reloads.last_success,
            "failures": control.reloads.failures,
            "problems": control.problems(),
            "models": len(control.controller.models),
        },
        "registry": context.registry,
        "store": {
            "place": str(control.setup.state / "canary-router.db"),
            "problem": recorder.problem,
            "failures": recorder.failures,
            "outstanding": recorder.outstanding,
            "head": recorder.head,
        },
        "overhead": overhead,
        "requests": figures.requests,
    }


def _workers(context: Context) -> list[dict[str, Any]]:
    workers = context.control.workers
    newest = workers.snapshot.sequence
    return [
        {"index": index, "behind": newest - held, "held": held} for index, held in sorted(workers.applied().items())
    ]


def _models_of_children(context: Context) -> dict[str, str]:
    """By the name of the model server: what it serves."""
    found: dict[str, list[str]] = {}
    for model in context.control.controller.models.values():
        for (version, _), need in model.needs.items():
            for endpoint in context.control.controller.fact(need).endpoints:
                if endpoint.network == "unix":
                    found.setdefault(Path(endpoint.address).stem, []).append(f"{model.name} {version}")
    return {f"pyfunc-{stem.removeprefix('pyfunc-')}": ", ".join(dict.fromkeys(who)) for stem, who in found.items()}


def _memory(pids: Iterable[int]) -> dict[int, int]:
    """Bytes that each process has in memory."""
    found = {}
    for pid in pids:
        try:
            found[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_SIZE
        except (OSError, IndexError, ValueError):
            continue
    return found
