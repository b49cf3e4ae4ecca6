"""What is printed and written of a comparison: a table, the bar, JSON and a plot.

Rules:
1. The bar is printed with the figure beside it, held or not.
2. matplotlib is imported only to draw; without it there is no plot, and the output says so.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.compare.rounds import OURS, Line, Runs, added_latency, line

BAR = {"nginx": 1.5, "Envoy": 0.5, "aiohttp": 0.25}
"""By peer the most that we may take, as a multiple of its CPU per request at 32 and 128 connections."""

LATENCY_BAR = 1.5
COLUMNS = f"{'c':>4}  {'proxy':<18} {'CPU µs':>8} {'ours ×':>7} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'errors':>7}"


def lines(runs: Runs) -> list[Line]:
    """The table's lines, by connections and then by cost."""
    found = [line(runs, name, connections) for name, connections in runs]
    return sorted(found, key=lambda one: (one.connections, one.cpu_us))


def show(table: list[Line], memory: dict[str, float]) -> None:
    """Prints the table and the memory of each worker."""
    print(COLUMNS)
    for one in table:
        print(
            f"{one.connections:>4}  {one.name:<18} {one.cpu_us:>8.1f} {one.ratio:>7.2f} {one.rps:>8.0f}"
            f" {one.p50_us / 1e3:>8.2f} {one.p99_us / 1e3:>8.2f} {one.errors:>7}"
        )
    print("memory of the working process, PSS: " + ", ".join(f"{name} {mb:.0f} MB" for name, mb in memory.items()))


def judge(runs: Runs, table: list[Line]) -> list[tuple[str, float, float]]:
    """What is measured against the bar: what, the figure, the bound."""
    found = [
        (f"CPU per request, c = {one.connections}, × {one.name}", one.ratio, BAR[one.name])
        for one in table
        if one.name in BAR and one.connections > 1
    ]
    latency = added_latency(runs, "nginx")
    if latency is not None:
        found.append(("added latency, c = 1, × nginx", latency, LATENCY_BAR))
    return found


def verdict(what: str, figure: float, bound: float, unit: str = "") -> bool:
    """Prints one figure against its bound; true if it is held."""
    held = figure <= bound
    print(f"{what}: {figure:.2f}{unit}, at most {bound:g}{unit}: {'held' if held else 'NOT held'}")
    return held


def write(path: Path, runs: Runs, memory: dict[str, float]) -> None:
    """Writes every run, and the medians, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = [
        {"proxy": name, "connections": many, "runs": [asdict(run) for run in found]}
        for (name, many), found in runs.items()
    ]
    document = {"medians": [asdict(one) for one in lines(runs)], "worker_pss_mb": memory, "runs": every}
    path.write_text(json.dumps(document, indent=2))


def _cpu(one: Line) -> float:
    return one.cpu_us


def _p99(one: Line) -> float:
    return one.p99_us / 1e3


def draw(path: Path, table: list[Line]) -> bool:
    """Draws CPU per request and p99 by proxy and connections; false where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    names = list(dict.fromkeys(one.name for one in table if one.name != "no proxy"))
    many = sorted({one.connections for one in table})
    for axis, title, value in (
        (axes[0], "CPU per request, µs", _cpu),
        (axes[1], "p99 latency, ms", _p99),
    ):
        for index, connections in enumerate(many):
            found = {one.name: value(one) for one in table if one.connections == connections}
            places = [place + (index - (len(many) - 1) / 2) * 0.25 for place in range(len(names))]
            axis.bar(places, [found[name] for name in names], width=0.25, label=f"{connections} connections")
        axis.set_yscale("log")
        axis.set_title(title)
        axis.set_xticks(range(len(names)), [f"{name}\n(this)" if name == OURS else name for name in names], fontsize=8)
    axes[0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True
