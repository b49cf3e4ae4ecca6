"""What is printed and written of a simulation: a table with the bar, JSON, and a plot.

Rules:
1. Every case is printed with what it must come to and what it came to, held or not.
2. matplotlib is imported only to draw; without it there is no plot, and the output says so.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from loadtest.rollback.play import Ended
from loadtest.rollback.scenario import Case


@dataclass(frozen=True)
class Row:
    """One case's figures.

    `reached` is what `measure` came to, None where a bad one was never rolled back. `*_requests` are the canary's until
    the rollback; `quantiles` of them go from the smallest to the largest in steps of 2 %.
    """

    name: str
    title: str
    seed: int
    runs: int
    measure: str
    must: float
    reached: float | None
    held: bool
    early: int
    guards: dict[str, int]
    median_requests: float | None
    p95_requests: float | None
    largest_requests: int | None
    median_seconds: float | None
    quantiles: tuple[int, ...]


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
        held=reached is not None and reached <= case.must,
        early=sum(one.early for one in ended),
        guards=dict(Counter(one.guard for one in ended if one.guard)),
        median_requests=median(requests) if requests else None,
        p95_requests=requests[int(0.95 * (len(requests) - 1))] if requests else None,
        largest_requests=requests[-1] if requests else None,
        median_seconds=round(median(one.seconds for one in found), 3) if found else None,
        quantiles=tuple(requests[round(step / 50 * (len(requests) - 1))] for step in range(51)) if requests else (),
    )


def _reached(case: Case, ended: list[Ended], requests: list[int]) -> float | None:
    if case.measure == "rolled back":
        return float(sum(1 for one in ended if one.guard))
    if len(requests) + sum(one.early for one in ended) < len(ended):
        return None
    return float(median(requests) if case.measure == "median" else requests[-1])


def show(rows: list[Row]) -> None:
    """Prints the table."""
    print(f"{'case':<66} {'measure':<12} {'must':>6} {'reached':>8} {'p95':>6} {'runs':>5}")
    for one in rows:
        p95 = "" if one.measure == "rolled back" or one.p95_requests is None else f"{one.p95_requests:.0f}"
        held = "" if one.held else "  NOT held"
        print(
            f"{one.title:<66} {one.measure:<12} {f'≤ {one.must:g}':>6} {_told(one.reached):>8} {p95:>6}"
            f" {one.runs:>5}{held}"
        )


def markdown(rows: list[Row]) -> str:
    """The table of `docs/evidence.md`."""
    lines = ["| case | runs | bar | reached | 95 % of runs |", "| --- | ---: | ---: | ---: | ---: |"]
    for one in rows:
        counted = one.measure == "rolled back" or one.p95_requests is None
        p95 = "" if counted else f"{one.p95_requests:g}"
        lines.append(
            f"| {one.title} | {one.runs} | {one.measure} ≤ {one.must:g} | {_told(one.reached)}"
            f"{'' if one.held else ' (not held)'} | {p95} |"
        )
    return "\n".join(lines) + "\n"


def _told(reached: float | None) -> str:
    return "never" if reached is None else f"{reached:g}"


def write(rows: list[Row], path: Path) -> None:
    """Writes the figures as JSON."""
    path.write_text(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n", encoding="utf-8")


def earlier(path: Path) -> list[Row]:
    """The figures that `write` has written there before; none where there is no such file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Row]) if path.exists() else []


def draw(rows: list[Row], path: Path) -> None:
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
        shares = [step / 50 for step in range(len(one.quantiles))]
        soon.step(one.quantiles, shares, where="post", label=one.title)
    soon.set_xscale("log")
    soon.set_xlim(1, 10_000)
    soon.set_xlabel("requests of the canary since it turned bad")
    soon.set_ylabel("share of runs rolled back")
    soon.legend(fontsize=7)
    soon.grid(alpha=0.3)
    good = [one for one in rows if one.measure == "rolled back"]
    alarms.barh([one.name for one in good], [(one.reached or 0.0) / one.runs * 100.0 for one in good])
    for place, one in enumerate(good):
        alarms.text(one.must / one.runs * 100.0, place, f" {_told(one.reached)} of {one.runs}", va="center", fontsize=8)
        alarms.plot([one.must / one.runs * 100.0] * 2, [place - 0.4, place + 0.4], color="black")
    alarms.set_xlabel("good canaries rolled back, % (line: the most allowed)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
