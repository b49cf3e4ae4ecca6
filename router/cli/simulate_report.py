"""What a simulation came to: figures, a verdict in words, and a plot.

Rules:
1. A configuration is called safe only where not one simulated run let the named bad version pass, and no more good ones
   were rolled back than its `false_alarm` can explain.
2. The plot is SVG that we write: nothing has to be installed for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, factorial, log10
from statistics import median

from router.cli.simulate_traffic import Ended
from router.core.analysis import span

HEADER = ("CANARY", "RUNS", "ROLLED BACK", "PASSED", "HELD", "GUARDS", "REQUESTS (MEDIAN, P95)", "TIME (MEDIAN, P95)")


@dataclass(frozen=True)
class Figures:
    """What became of one kind of canary. `requests` of the canary and `seconds` until the rollback: median, p95.

    `early` counts rollbacks before it turned bad, which are false alarms.
    """

    runs: int
    rolled_back: int
    passed: int
    held: int
    early: int
    guards: dict[str, int]
    requests: tuple[float, float] | None
    seconds: tuple[float, float] | None


def figures(ended: Sequence[Ended]) -> Figures:
    """The figures of `ended`."""
    found = [one for one in ended if one.end == "rolled back" and not one.early]
    return Figures(
        runs=len(ended),
        rolled_back=len(found),
        passed=sum(one.end == "passed" for one in ended),
        held=sum(one.end == "held" for one in ended),
        early=sum(one.early for one in ended),
        guards=dict(Counter(one.guard for one in found)),
        requests=_middle([one.requests for one in found]),
        seconds=_middle([one.seconds for one in found]),
    )


def row(name: str, found: Figures) -> Sequence[str]:
    """The table's row for a canary called `name`."""
    return (
        name,
        str(found.runs),
        str(found.rolled_back),
        str(found.passed),
        str(found.held),
        ", ".join(f"{guard} {n}" for guard, n in found.guards.items()) or "-",
        "{:.0f}, {:.0f}".format(*found.requests) if found.requests else "-",
        ", ".join(span(seconds) for seconds in found.seconds) if found.seconds else "-",
    )


@dataclass(frozen=True)
class Promise:
    """What the figures are held against.

    `false_alarm` is the chance that a good canary is ever rolled back, `duration` the seconds of a run, `alone` whether
    no stable runs beside the canary.
    """

    false_alarm: float
    duration: float
    alone: bool = False


def judgement(good: Figures, bad: Figures, name: str, promise: Promise) -> tuple[bool, str]:
    """Whether the configuration is safe from a canary that is bad as `name` says, and why, in words."""
    wrong, judged = good.rolled_back + good.early + bad.early, good.runs + bad.early
    alarms = f"{wrong} of {judged} good canaries were rolled back"
    within = span(promise.duration)
    if bad.passed:
        return (
            False,
            f"NOT safe: {bad.passed} of {bad.runs} canaries with {name} would have passed within {within}; "
            + (
                "where no stable runs beside it only guards.error_rate judges: lower its max, or leave stable a share"
                if promise.alone
                else "give the canary more traffic or longer holds, or lower the limits under guards"
            ),
        )
    if _hardly(wrong, judged * promise.false_alarm):
        return False, (
            f"NOT usable: {alarms}, more than guards.false_alarm of {100.0 * promise.false_alarm:.4g} % can explain; "
            "what is as good as stable does not keep the limits under guards: raise error_rate.max"
        )
    if bad.held:
        also = (
            f"so were {good.held} of {good.runs} good ones, for want of requests or of a difference; "
            if good.held
            else ""
        )
        return True, (
            f"safe within {within}: none of {bad.runs} canaries with {name} passed; {bad.held} were held back "
            f"without a rollback, and the router says so; {also}{alarms}"
        )
    return True, f"safe: all {bad.runs} canaries with {name} were rolled back; {alarms}"


def _hardly(found: int, expected: float) -> bool:
    """Whether so many would be `found` less than once in a thousand times where `expected` are to be expected."""
    return found > 0 and 1.0 - exp(-expected) * sum(expected**n / factorial(n) for n in range(found)) < 0.001


def plot(bad: Iterable[Ended], title: str) -> str:
    """An SVG of the share rolled back over the canary's requests since it turned bad."""
    runs = list(bad)
    found = sorted(max(1, one.requests) for one in runs if one.end == "rolled back" and not one.early)
    decades = max(1, int(log10(found[-1])) + 1) if found else 1
    left, top, width, height = 60, 40, 560, 280

    def place(requests: float, share: float) -> str:
        return f"{left + width * log10(requests) / decades:.1f},{top + height * (1 - share):.1f}"

    points = [place(1, 0)]
    for number, requests in enumerate(found):
        points += [place(requests, number / len(runs)), place(requests, (number + 1) / len(runs))]
    points.append(place(10**decades, len(found) / max(1, len(runs))))
    marks = [
        *(_label(left + width * decade / decades, top + height + 18, f"{10**decade}") for decade in range(decades + 1)),
        *(_label(left - 26, top + height * (1 - share / 4) + 4, f"{share * 25} %") for share in range(5)),
        _label(left + width / 2, top + height + 40, "requests of the canary since it turned bad, until the rollback"),
    ]
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 370" font-family="sans-serif" font-size="12">',
            '<rect width="660" height="370" fill="white"/>',
            f'<text x="{left}" y="24" font-size="14">{escaped}</text>',
            f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
            f'<polyline points="{" ".join(points)}" fill="none" stroke="#c0392b" stroke-width="2"/>',
            *marks,
            "</svg>\n",
        ]
    )


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{text}</text>'


def _middle(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    return float(median(values)), float(sorted(values)[int(0.95 * (len(values) - 1))])
