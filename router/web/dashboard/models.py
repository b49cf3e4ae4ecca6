"""The first page: every model on a line of its own, worst first.

Rules:
1. What is sorted and searched by is known of every model; a whole line is made only of those that are shown.
2. A thousand models are pages of fifty: what is sent stays small, whatever the number.
3. What needs a person comes first, unless another order was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from router.control.canary import Canary
from router.control.controller import Model
from router.core.snapshot import RegionRoute
from router.store.audit import AuditRecord
from router.web.dashboard.context import Context
from router.web.dashboard.figures import WINDOWS, Figures

PAGE = 50
MOST_REGIONS = 3
SORTS = ("state", "name", "rate", "stable", "canary", "changed")
WINDOW = WINDOWS["5m"]


@dataclass(frozen=True, slots=True)
class Condition:
    """How a model is, in a word or two; `tone` is how it looks, `rank` 0 for what needs a person most."""

    rank: int
    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the list is shown."""

    search: str = ""
    sort: str = "state"
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """From a request's query; what makes no sense is what it would be without."""
        page = query.get("page", "1")
        return cls(
            query.get("q", "").strip()[:100],
            sort if (sort := query.get("sort", "")) in SORTS else "state",
            max(1, int(page)) if page.isdecimal() and len(page) < 6 else 1,
        )

    def query(self, **other: object) -> str:
        """As a query string, with `other` in the place of what it has; empty where all is as usual."""
        usual = {"q": "", "sort": "state", "page": 1}
        fields = {"q": self.search, "sort": self.sort, "page": self.page, **other}
        wanted = {name: value for name, value in fields.items() if value != usual[name]}
        return f"?{urlencode(wanted)}" if wanted else ""


def condition(context: Context, model: Model, canaries: Mapping[str, Canary]) -> Condition:
    """What matters most about `model`."""
    if model.route is None:
        return Condition(0, "bad", "not served")
    targets = [target for there in model.route.regions.values() for target in there.targets]
    states = {target.state for target in targets}
    stables = [there.targets[there.stable] for there in model.route.regions.values()]
    phases: dict[str, Canary] = {
        canary.state.phase: canary for canary in canaries.values() if canary.settled and canary.state
    }
    if any(stable.state != "ready" for stable in stables):
        return Condition(1, "bad", "stable not ready")
    down = {version for (version, _), need in model.needs.items() if context.control.controller.fact(need).down}
    if down & {stable.version for stable in stables}:
        return Condition(1, "bad", "stable down")
    if "rolled_back" in states or "rolled_back" in phases:
        return Condition(2, "bad", "rolled back")
    if any(target.weight and target.version in down for target in targets):
        return Condition(3, "bad", "canary down")
    if model.problems:
        return Condition(4, "warn", "config problem")
    for phase, word in (
        ("awaiting_approval", "needs approval"),
        ("inconclusive", "inconclusive"),
        ("paused", "paused"),
    ):
        if phase in phases:
            return Condition(5, "warn", word)
    for state in ("unready", "gated", "warming"):
        if state in states:
            return Condition(6, "warn", "canary " + state)
    for phase in ("holding", "progressing"):
        if (canary := phases.get(phase)) and canary.state and canary.plan:
            return Condition(7, "going", f"step {canary.state.step_index + 1} of {len(canary.plan.steps)}")
    return Condition(8, "going", "canary") if canaries else Condition(9, "calm", "stable")


class _Facts:
    """What is known of one model without making its line."""

    def __init__(self, context: Context, model: Model) -> None:
        control = context.control
        self.model = model
        self.canaries = {
            name: canary
            for name, canary in control.helm.steering.canaries(model.name).items()
            if canary.plan is not None
        }
        self.condition = condition(context, model, self.canaries)
        self._context = context

    def rate(self) -> float:
        """Requests per second, of all regions."""
        regions = self._context.control.setup.regions
        return sum(self._context.control.totals.rate(self.model.name, region) for region in regions)

    def changed(self) -> AuditRecord | None:
        """The newest entry of the audit trail."""
        return self._context.changes.of(self.model.name)

    def failures(self, *, canary: bool) -> Figures:
        """Of stable or of all canaries, of late."""
        routes = self.model.route.regions if self.model.route is not None else {}
        series = [
            (self.model.name, target.version, region)
            for region, there in routes.items()
            for index, target in enumerate(there.targets)
            if (target.version in self.canaries if canary else index == there.stable)
        ]
        return self._context.figures(dict.fromkeys(series), WINDOW)


def _order(sort: str) -> Callable[[_Facts], Any]:
    """Rule 3."""
    orders: Mapping[str, Callable[[_Facts], Any]] = {
        "state": lambda facts: (facts.condition.rank, facts.model.name),
        "name": lambda facts: facts.model.name,
        "rate": lambda facts: (-facts.rate(), facts.model.name),
        "stable": lambda facts: (-(facts.failures(canary=False).failure_rate or 0.0), facts.model.name),
        "canary": lambda facts: (-(facts.failures(canary=True).failure_rate or 0.0), facts.model.name),
        "changed": lambda facts: (-(record.entry.time if (record := facts.changed()) else 0.0), facts.model.name),
    }
    return orders[sort]


def listing(context: Context, asked: Asked) -> dict[str, Any]:
    """What the page shows, for its template."""
    models = context.control.controller.models.values()
    needle = asked.search.lower()
    found = [_Facts(context, model) for model in models if not needle or needle in _text(model)]
    found.sort(key=_order(asked.sort))
    pages = max(1, -(-len(found) // PAGE))
    page = min(asked.page, pages)
    shown = found[(page - 1) * PAGE : page * PAGE]
    attention = sum(facts.condition.rank <= 4 for facts in found)
    return {
        "asked": asked,
        "found": len(found),
        "total": len(models),
        "attention": attention,
        "canaries": sum(bool(facts.canaries) for facts in found),
        "page": page,
        "pages": pages,
        "rows": [_row(context, facts) for facts in shown],
        "problems": context.control.problems(),
        "revision": context.control.reloads.revision,
    }


def _text(model: Model) -> str:
    owner = model.config.owner if model.config is not None else ""
    return f"{model.name} {owner}".lower()


def _row(context: Context, facts: _Facts) -> dict[str, Any]:
    model = facts.model
    routes = model.route.regions if model.route is not None else {}
    record = facts.changed()
    return {
        "name": model.name,
        "owner": model.config.owner if model.config is not None else "",
        "condition": facts.condition,
        "splits": [split(there) for there in list(routes.values())[:MOST_REGIONS]],
        "more_regions": max(0, len(routes) - MOST_REGIONS),
        "single": len(context.control.setup.regions) == 1,
        "rate": facts.rate(),
        "stable": facts.failures(canary=False).failure_rate,
        "canary": facts.failures(canary=True).failure_rate if facts.canaries else None,
        "changed": record,
        "by": record.entry.actor if record is not None else "",
        "revision": (record.entry.revision if record is not None else "")[:8],
    }


def split(there: RegionRoute) -> dict[str, Any]:
    """One region's declared and effective weights, in percent, as bars: stable first."""
    declared: dict[str, int] = {}
    effective: dict[str, int] = {}
    stable = there.targets[there.stable].version
    for target in sorted(there.targets, key=lambda target: target.version != stable):
        declared[target.version] = declared.get(target.version, 0) + target.declared
        effective[target.version] = effective.get(target.version, 0) + target.weight
    names = [name for name in effective if effective[name] or declared[name] or name == stable]
    return {
        "region": there.region,
        "differs": any(declared[name] != effective[name] for name in names),
        "parts": [
            {"version": name, "tone": 0 if name == stable else min(place, 3),
             "declared": declared[name] / 100, "effective": effective[name] / 100,
             "declared_from": sum(declared[other] for other in names[:place]) / 100,
             "effective_from": sum(effective[other] for other in names[:place]) / 100}
            for place, name in enumerate(names)
        ],
    }  # fmt: skip
