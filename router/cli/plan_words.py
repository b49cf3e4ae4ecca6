"""A traffic plan in words: as tables for a terminal, as Markdown for a pull request, as data.

Rules:
1. Regions in which the same happens share a line.
2. What came from a config is printed escaped: it can neither steer a terminal nor put markup into a comment.
3. A comment stays below what code forges take; what is left out is counted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from router.cli.gate import report_data
from router.cli.gate import summary as summary_of_gates
from router.cli.output import clean, render
from router.config.problems import printable
from router.config.scalars import format_weight
from router.control.plan_types import ModelPlan, RegionPlan, TrafficPlan
from router.control.power import Power

MARK = "<!-- canary-router plan -->"
"""By this line a comment is found again, to be updated."""

MOST_CHARACTERS = 60_000
_TRAFFIC = ("MODEL", "REGION", "FROM", "TO", "WHO MOVES")
_POWER = ("MODEL", "REGION", "CANARY", "FAILS", "ROLLED BACK WITHIN (9 OF 10)", "REQUESTS THAT MEET IT (9 OF 10)")
_MARKUP = re.compile(r"([\\`*_\[\]#!|~@])")


def as_data(plan: TrafficPlan, against: str) -> dict[str, Any]:
    """The whole plan. Weights are percent, shares as well, durations seconds."""
    return {
        "against": printable(against),
        "differs": plan.differs,
        "warnings": plan.warnings,
        "unchanged": plan.unchanged,
        "models": [_model_data(model) for model in plan.models],
        "problems": [{**dataclasses.asdict(each), "file": printable(each.file)} for each in plan.problems],
    }


def as_table(plan: TrafficPlan, against: str) -> str:
    """The plan for a terminal."""
    parts = [clean(summary(plan, against))]
    rows = [row for model in plan.models for row in _traffic_rows(model)]
    if rows:
        parts.append(render(None, _TRAFFIC, rows, "table"))
    parts.append("\n".join(clean(line) for model in plan.models for line in _lines(model)))
    power = [row for model in plan.models for row in _power_rows(model)]
    if power:
        parts.append(render(None, _POWER, power, "table"))
    parts.append("\n".join(clean(f"problem: {problem}") for problem in plan.problems))
    return "\n\n".join(part for part in parts if part)


def as_markdown(plan: TrafficPlan, against: str) -> str:
    """The plan for a comment; its first line is `MARK`."""
    parts = [MARK, f"### Traffic plan: {_escaped(summary(plan, against))}"]
    if plan.problems:
        parts.append("**The configs have problems; nothing is applied for these models:**")
        parts.append(_bullets(str(problem) for problem in plan.problems[:50]))
    shown = 0
    size = sum(map(len, parts))
    for model in plan.models:
        text = _model_markdown(model)
        size += len(text) + 2
        if size > MOST_CHARACTERS:
            break
        parts.append(text)
        shown += 1
    if shown < len(plan.models):
        parts.append(f"… and {len(plan.models) - shown} models more: run `canary-router plan` for all of them.")
    return "\n\n".join(parts)


def summary(plan: TrafficPlan, against: str) -> str:
    """One line: what the plan comes to."""
    if not plan.differs and not plan.problems:
        return f"nothing changes against {against}"
    counts = [_count(len(plan.models), "model"), "changes" if len(plan.models) == 1 else "change"]
    warned = f", {_count(plan.warnings, 'warning')}" if plan.warnings else ""
    wrong = f", {_count(len(plan.problems), 'problem')}" if plan.problems else ""
    return f"{' '.join(counts)} against {against}{warned}{wrong}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _grouped(regions: Iterable[RegionPlan]) -> list[tuple[str, RegionPlan]]:
    """Rule 1: names of regions, and what happens in each of them."""
    groups: list[tuple[list[str], RegionPlan]] = []
    for region in regions:
        same = next((names for names, of in groups if dataclasses.replace(region, region=of.region) == of), None)
        if same is not None:
            same.append(region.region)
        else:
            groups.append(([region.region], region))
    return [(", ".join(names), region) for names, region in groups]


def _traffic_rows(model: ModelPlan) -> Iterator[Sequence[str]]:
    for names, region in _grouped(model.regions):
        yield (
            model.model,
            names,
            _split(region.before, region.stable_before) or "not served",
            (_split(region.after, region.stable_after) or "not served") + _then(region),
            _who_moves(model, region),
        )


def _split(weights: Mapping[str, int], stable: str) -> str:
    return ", ".join(
        f"{version} {format_weight(weight)}" + (" (stable)" if version == stable and len(weights) > 1 else "")
        for version, weight in weights.items()
    )


def _then(region: RegionPlan) -> str:
    later = ", ".join(map(format_weight, region.ladder[1:]))
    return f", then {region.canary} {later}" if later else ""


def _who_moves(model: ModelPlan, region: RegionPlan) -> str:
    if not region.before or not region.after:
        return "everybody" if model.change != "changed" else "-"
    found = region.movement
    if not found.moved:
        return "nobody"
    moves = ", ".join(
        f"{format_weight(move.share)} {move.source} → {'another ' if move.source == move.target else ''}{move.target}"
        for move in found.moves
    )
    if not found.exact:
        return f"about {moves}"
    return f"{moves}; {format_weight(found.needless)} without need" if found.needless else f"{moves}; nobody else"


def _lines(model: ModelPlan) -> Iterator[str]:
    """What the table does not say, one line each; warnings first."""
    for where, message in _warned(model):
        yield f"warning: {model.model}{f' in {where}' if where else ''}: {message}"
    for said in _facts(model):
        yield f"{model.model}: {said}"


def _warned(model: ModelPlan) -> list[tuple[str, str]]:
    """Rule 1: where, and what."""
    regions: dict[str, list[str]] = {}
    for warned in model.warnings:
        regions.setdefault(warned.message, []).append(warned.region)
    return [(", ".join(names), message) for message, names in regions.items()]


def _facts(model: ModelPlan) -> Iterator[str]:
    for what, versions in (
        ("starts", model.starts), ("stops", model.stops), ("is another model than before:", model.redefined),
    ):  # fmt: skip
        if versions:
            yield f"{what} {', '.join(versions)}"
    yield from model.settings
    yield from model.notes
    for report in model.gates:
        yield f"gates: {summary_of_gates(report)}"
        yield from (f"{report.version}: {finding}" for finding in report.findings if not finding.passed)
    if not (model.regions or model.starts or model.stops or model.settings):
        yield "nothing changes for traffic"


def _power_rows(model: ModelPlan) -> Iterator[Sequence[str]]:
    for names, region in _grouped(model.regions):
        for power in region.power:
            canary = f"{power.version} at {format_weight(power.weight)}"
            yield (model.model, names, canary, f"{power.error_rate:.0%}", _within(power), _met(power))


def _within(power: Power) -> str:
    if power.requests is None:
        return "never"
    if power.seconds is None:
        return "-"
    late = "never" if power.at_most_seconds is None else duration(power.at_most_seconds)
    return f"{duration(power.seconds)} ({late})"


def _met(power: Power) -> str:
    if power.requests is None:
        return "all"
    late = "all" if power.at_most is None else power.at_most
    return f"{power.requests} ({late}), of them {power.failures} failed"


def duration(seconds: float) -> str:
    """`seconds` as people say it: `45s`, `12m`, `3.5h`, `2.1 days`."""
    for limit, unit, name in ((90.0, 1.0, "s"), (5400.0, 60.0, "m"), (172_800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{max(seconds / unit, 0.1):.2g}{name}" if seconds < 10 else f"{seconds / unit:.0f}{name}"
    return f"{seconds / 86_400:.1f} days" if seconds < 864_000 else f"{seconds / 86_400:.0f} days"


def _model_markdown(model: ModelPlan) -> str:
    title = f"#### {_escaped(model.model)}: {model.change}" + (
        f" (owner: {_escaped(model.owner)})" if model.owner else ""
    )
    parts = [title]
    if model.warnings:
        parts.append(_bullets(f"⚠️ {f'{where}: ' if where else ''}{message}" for where, message in _warned(model)))
    rows = [[_escaped(cell) for cell in row[1:]] for row in _traffic_rows(model)]
    if rows:
        parts.append(_rows([name.capitalize() for name in _TRAFFIC[1:]], rows))
    if facts := list(_facts(model)):
        parts.append(_bullets(facts))
    if power := [[_escaped(cell) for cell in row[1:]] for row in _power_rows(model)]:
        table = _rows([name.capitalize() for name in _POWER[1:]], power)
        parts.append(f"<details><summary>How soon a bad canary is rolled back</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def _escaped(text: str) -> str:
    """Rule 2; an entity for '@', which would otherwise notify somebody."""
    plain = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: "&#64;" if found[1] == "@" else f"\\{found[1]}", plain)


def _model_data(model: ModelPlan) -> dict[str, Any]:
    data: dict[str, Any] = _listed(dataclasses.asdict(model))
    return data | {
        "regions": [_region_data(region) for region in model.regions],
        "gates": [report_data(report) for report in model.gates],
    }


def _region_data(region: RegionPlan) -> dict[str, Any]:
    moves = [{"from": move.source, "to": move.target, "percent": move.share / 100} for move in region.movement.moves]
    return {
        "region": region.region,
        "before": {version: weight / 100 for version, weight in region.before.items()},
        "after": {version: weight / 100 for version, weight in region.after.items()},
        "stable_before": region.stable_before,
        "stable_after": region.stable_after,
        "steps": [weight / 100 for weight in region.ladder],
        "moves": moves,
        "moved_percent": region.movement.moved / 100,
        "needless_percent": region.movement.needless / 100,
        "exact": region.movement.exact,
        "power": [
            {**dataclasses.asdict(power), "weight": power.weight / 100, "failures": power.failures}
            for power in region.power
        ],
    }


def _listed(value: Any) -> Any:
    """`value` with lists for tuples, which YAML would mark as something of Python's."""
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value
