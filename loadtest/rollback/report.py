"""What is printed and written of a simulation: a table with the bar, JSON, and a plot.

Rules:
1. Every case is printed with what it must come to and what it came to, held or not.
2. matplotlib is imported only to draw; without it there is no plot, and the output says so.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.rollback.play import Ended
from loadtest.rollback.scenario import Case


@dataclass(frozen=True)
class Row:
    """One case's figures. `reached` is what `measure` came to; `requests` are the canary's until the rollback."""

    name: str
    title: str
    seed: int
    runs: int
    measure: str
    must: float
    reached: float
    held: bool
    early: int
    guards: dict[str, int]
    median_requests: float | None
    p95_requests: float | None
    largest_requests: int | None
    median_seconds: float | None


def row(case: Case, ended: list[Ended]) -> Row:
    """The figures of `case` after its runs."""
    found = [one for one in ended if one.guard and not one.early]
    requests = sorted(one.requests for one in found)
    reached = _reached(case, ended, requests)
    return Row(
        name=case.name,
        title=case.title,
        seed=case.seed,
        runs=len(ended),
        measure=case.measure,
        must=case.must,
        reached=reached,
        held=reached <= case.must,
        early=sum(one.early for one in ended),
        guards=dict(Counter(one.guard for one in ended if one.guard)),
        median_requests=median(requests) if requests else None,
        p95_requests=requests[int(0.95 * (len(requests) - 1))] if requests else None,
        largest_requests=requests[-1] if requests else None,
        median_seconds=round(median(one.seconds for one in found), 3) if found else None,
    )


def _reached(case: Case, ended: list[Ended], requests: list[int]) -> float:
    if case.measure == "rolled back":
        return float(sum(1 for one in ended if one.guard))
    if len(requests) + sum(one.early for one in ended) < len(ended):
        return float("inf")
    return float(median(requests) if case.measure == "median" else requests[-1])


def show(rows: list[Row]) -> None:
    """Prints the table."""
    print(f"{'case':<62} {'measure':<12} {'must':>6} {'reached':>8} {'p95':>6} {'runs':>5}")
    for one in rows:
        p95 = "" if one.measure == "rolled back" or one.p95_requests is None else f"{one.p95_requests:.0f}"
        held = "" if one.held else "  NOT held"
        print(
            f"{one.title:<62} {one.measure:<12} {f'≤ {one.must:g}':>6} {one.reached:>8g} {p95:>6} {one.runs:>5}{held}"
        )


def write(rows: list[Row], path: Path) -> None:
    """Writes the figures as JSON."""
    path.write_text(json.dumps([asdict(one) for one in rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def draw(rows: list[Row], ended: dict[str, list[Ended]], path: Path) -> None:
    """Draws how soon the bad ones were rolled back, and how many of the good ones were."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    mpl.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, (soon, alarms) = pyplot.subplots(1, 2, figsize=(13, 5))
    bad = [one for one in rows if one.measure != "rolled back"]
    for one in bad:
        requests = sorted(max(1, each.requests) for each in ended[one.name] if each.guard and not each.early)
        shares = [(position + 1) / len(requests) for position in range(len(requests))]
        soon.step(requests, shares, where="post", label=one.title)
    soon.set_xscale("log")
    soon.set_xlabel("requests of the canary since it turned bad")
    soon.set_ylabel("share of runs rolled back")
    soon.legend(fontsize=7)
    soon.grid(alpha=0.3)
    good = [one for one in rows if one.measure == "rolled back"]
    alarms.barh([one.name for one in good], [one.reached / one.runs * 100.0 for one in good])
    for place, one in enumerate(good):
        alarms.text(one.must / one.runs * 100.0, place, f" {one.reached:g} of {one.runs}", va="center", fontsize=8)
        alarms.plot([one.must / one.runs * 100.0] * 2, [place - 0.4, place + 0.4], color="black")
    alarms.set_xlabel("good canaries rolled back, % (line: the most allowed)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
