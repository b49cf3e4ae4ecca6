"""The page of one model: where its canary stands, how its versions compare, and why the router does what it does.

Rules:
1. What an operator would see happen is what the router itself would decide: the same table answers both.
2. Every number is in a table; pictures repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from router.control.canary import Canary
from router.control.controller import Model
from router.control.entries import weights_of
from router.core.outcome import BUCKETS
from router.core.plan import Plan, Position
from router.core.rollout import decide
from router.core.rollout_state import Command, CommandName, Decision, RolloutState
from router.web.dashboard.context import Context
from router.web.dashboard.figures import WINDOWS, Figures, shares
from router.web.dashboard.models import condition, split
from router.web.dashboard.words import duration
from router.web.schemas import GuardView, VersionView
from router.web.views import model_view, only_region

ACTIONS: Mapping[CommandName, tuple[str, str]] = {
    "approve": ("Approve", "main"),
    "promote": ("Promote", "main"),
    "resume": ("Resume", "main"),
    "pause": ("Pause", ""),
    "readmit": ("Readmit", ""),
    "rollback": ("Roll back", "danger"),
}
"""What the buttons say, and how they look."""

GUARDS = {
    "errors": "Errors", "rejections": "Rejections", "latency": "Latency", "absolute": "Error rate limit",
    "sample_ratio": "Split as declared", "promotion": "Proof for promotion",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preview:
    """What `action` would do to a canary: the weights before and after by region, in percent."""

    action: CommandName
    text: str
    tone: str
    reason: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    revision: int


def previews(canary: Canary) -> list[Preview]:
    """What may be done to `canary` now (rule 1)."""
    if canary.plan is None or canary.state is None or not canary.settled:
        return []
    found = []
    for action, (text, tone) in ACTIONS.items():
        told = decide(canary.state, Command(action), canary.plan)
        if isinstance(told, Decision):
            before, after = weights_of(canary.plan, canary.state), weights_of(canary.plan, told.state)
            found.append(Preview(action, text, tone, told.reason, before, after, canary.state.revision))
    return found


def page(context: Context, model: Model, window: str) -> dict[str, Any]:
    """What the page shows, for its templates. `window` is one of `WINDOWS`."""
    control = context.control
    view = model_view(control, model, only_region(control))
    known = {
        name: canary for name, canary in control.helm.steering.canaries(model.name).items() if canary.plan is not None
    }
    routes = model.route.regions if model.route is not None else {}
    stables = {there.targets[there.stable].version for there in routes.values()}
    order = sorted(view.versions, key=lambda name: (name not in stables, name not in known))
    figures = {name: _figures(context, model, name, window) for name in order}
    return {
        "view": view,
        "condition": condition(context, model, known),
        "splits": [split(there) for there in routes.values()],
        "single": len(control.setup.regions) == 1,
        "window": window,
        "windows": tuple(WINDOWS),
        "canaries": [_canary(canary, view.versions[name]) for name, canary in known.items() if name in view.versions],
        "versions": [
            {"name": name, "view": view.versions[name], "stable": name in stables, "canary": name in known,
             "tone": 0 if name in stables else min(place, 3), "figures": figures[name]}
            for place, name in enumerate(order)
        ],
        "codes": sorted({code for one in figures.values() for code in one.codes}),
        "curve": _curve(figures, stables),
        "changed": context.changes.of(model.name),
        "rate": sum(control.totals.rate(model.name, region) for region in control.setup.regions),
    }  # fmt: skip


def _figures(context: Context, model: Model, version: str, window: str) -> Figures:
    regions = context.control.setup.regions
    return context.figures([(model.name, version, region) for region in regions], WINDOWS[window])


def _curve(figures: Mapping[str, Figures], stables: set[str]) -> dict[str, Any] | None:
    """The distributions of durations, in percent of each version's requests by bucket; None where there is nothing."""
    asked = {name: one for name, one in figures.items() if one.duration.count}
    used = [i for i in range(len(BUCKETS) + 1) if any(one.duration.counts[i] for one in asked.values())]
    if not used:
        return None
    buckets = range(max(0, used[0] - 1), min(len(BUCKETS), used[-1] + 1) + 1)
    names = [f"≤ {duration(BUCKETS[i])}" if i < len(BUCKETS) else "more" for i in buckets]
    series = [
        {"name": name, "tone": 0 if name in stables else min(place, 3),
         "values": [round(100 * shares(asked[name].duration)[i], 2) for i in buckets]}
        for place, name in enumerate(figures) if name in asked
    ]  # fmt: skip
    return {"names": names, "every": 1 + len(names) // 9, "series": series}


def _canary(canary: Canary, shown: VersionView) -> dict[str, Any]:
    return {
        "name": canary.version,
        "rollout": shown.rollout,
        "verdict": shown.verdict,
        "guards": [_guard(name, guard) for name, guard in shown.evidence.items()],
        "steps": timeline(canary.plan, canary.state) if canary.settled and canary.plan and canary.state else [],
        "previews": previews(canary),
    }


def _guard(name: str, guard: GuardView) -> dict[str, Any]:
    """How far its evidence has come on the way to its threshold, on a log scale from 1, in percent."""
    far = 100.0 * log(max(1.0, guard.e)) / log(guard.threshold) if guard.threshold > 1.0 else 0.0
    return {
        "name": name,
        "title": GUARDS.get(name, name),
        "guard": guard,
        "far": round(min(100.0, far), 1),
        "good": name == "promotion",
    }


def timeline(plan: Plan, state: RolloutState) -> Sequence[dict[str, Any]]:
    """Every step of every stage: done, now or next."""
    at = state.position
    return [
        {
            "regions": ", ".join(regions) if len(plan.stages) > 1 else "",
            "number": number + 1,
            "weight": rung.weight / 100,
            "hold": rung.hold,
            "approval": rung.approval,
            "when": _when(Position(stage, number), at, state),
        }
        for stage, regions in enumerate(plan.stages)
        if regions
        for number, rung in enumerate(plan.steps)
    ]


def _when(step: Position, at: Position, state: RolloutState) -> str:
    if state.phase == "completed" or step < at:
        return "done"
    if step == at:
        return "stopped" if state.phase == "rolled_back" else "now"
    return "next"
