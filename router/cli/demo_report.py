"""What the demo saw, set against what the config declares.

Rules:
1. Latency is what the client saw, its own time included. The table fits into 80 columns.
2. A share is off when it misses its declared weight by more than four standard deviations of an honest draw, and
   half a point.
3. A failed request, or a share that is off, fails the demo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from router.cli.demo_traffic import Told
from router.errors import UpstreamError

Weights = Mapping[str, Mapping[str, int]]
"""Region → version → declared weight in hundredths of a percent."""

_DEVIATIONS = 4.0
_SLACK = 0.5


def comparison(answers: Sequence[Told], declared: Weights) -> Table:
    """The table: one line per region and version."""
    table = Table(title="What the clients saw", title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in ("region", "version"):
        table.add_column(name)
    for name in ("requests", "share", "declared", "p50 ms", "p95", "p99", "failures", "accuracy"):
        table.add_column(name, justify="right")
    for region, weights in declared.items():
        here = [told for told in answers if told.visit.region == region]
        for version, weight in weights.items():
            table.add_row(region, version, *_cells([told for told in here if told.version == version], here, weight))
    return table


def check(answers: Sequence[Told], declared: Weights) -> None:
    """Raises UpstreamError where a request failed, or a version's share is not what is declared."""
    failed = [told for told in answers if told.fault]
    if failed:
        raise UpstreamError(f"{len(failed)} of {len(answers)} requests failed", hint=f"the first: {failed[0].fault}")
    for region, weights in declared.items():
        here = [told for told in answers if told.visit.region == region]
        for version, weight in weights.items():
            share = percent(sum(told.version == version for told in here), len(here))
            if abs(share - weight / 100) > tolerance(weight / 100, len(here)):
                raise UpstreamError(f"{version} got {share:.1f} % of {region}'s requests, declared {weight / 100:g} %")


def tolerance(declared: float, requests: int) -> float:
    """How many points a share may miss `declared` percent after `requests` requests."""
    if declared in {0.0, 100.0}:
        return 0.0
    return _SLACK + _DEVIATIONS * math.sqrt(declared * (100 - declared) / max(requests, 1))


def percent(part: int, whole: int) -> float:
    """`part` of `whole` in percent; 0 of nothing."""
    return 100 * part / whole if whole else 0.0


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of `values` that at least the part `q` of them does not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(q * len(ranked)) - 1)]


def _cells(told: Sequence[Told], here: Sequence[Told], weight: int) -> list[str]:
    share = f"{percent(len(told), len(here)):.1f} %"
    declared = f"{weight / 100:g} %"
    if not told:
        return ["0", share, declared, "", "", "", "0", ""]
    times = [1000 * each.took for each in told]
    latency = [f"{quantile(times, q):.1f}" for q in (0.5, 0.95, 0.99)]
    failures = str(sum(bool(each.fault) for each in told))
    accuracy = f"{percent(sum(each.right for each in told), len(told)):.1f} %"
    return [str(len(told)), share, declared, *latency, failures, accuracy]
