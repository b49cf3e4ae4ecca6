"""From control's state to what the API and the page show.

Rules:
1. Reads only, on the event loop, so that one answer shows one moment.
2. Weights are shown of every version of the config, 0 included, and of a stable that stands in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from router.config.problems import Problem
from router.control.canary import Canary
from router.control.controller import Model
from router.control.gate_cases import Ruling
from router.control.gatekeeper import PENDING
from router.control.needs import Fact
from router.control.service import Control
from router.core.snapshot import Endpoint, RegionRoute, State
from router.web.canary_views import evidence_of, rollout_of, verdict_of
from router.web.schemas import (
    ConfigView,
    EndpointView,
    FindingView,
    ModelList,
    ModelView,
    Percentages,
    ProblemView,
    RegionView,
    VersionView,
)

WORST_FIRST = ("unready", "warming", "gated", "rolled_back", "ready")
NO_UPSTREAM = Fact("unready", "has no upstream in this region")


def all_models(control: Control) -> ModelList:
    """Every model, by name."""
    region = only_region(control)
    return ModelList(
        models=[model_view(control, model, region) for _, model in sorted(control.controller.models.items())],
        revision=control.reloads.revision,
        problems=control.problems(),
    )


def only_region(control: Control) -> str | None:
    """The region that this router serves, where it is one."""
    regions = control.setup.regions
    return regions[0] if len(regions) == 1 else None


def model_view(control: Control, model: Model, region: str | None) -> ModelView:
    """`model`, with the weights of `region` on top where one is given."""
    routes = model.route.regions if model.route is not None else {}
    regions = {name: _region(control, model, route) for name, route in routes.items()}
    shown = regions.get(region) if region is not None else None
    versions = _versions(control, model, region)
    return ModelView(
        model=model.name,
        owner=model.config.owner if model.config else "",
        description=model.config.description if model.config else "",
        region=region,
        stable=shown.stable if shown else None,
        declared=shown.declared if shown else None,
        effective=shown.effective if shown else None,
        observed=shown.observed if shown else None,
        regions=regions,
        versions=versions,
        config=ConfigView(
            revision=control.reloads.revision,
            digest=model.digest or None,
            problems=[*map(_problem, model.problems), *_version_problems(model, versions)],
        ),
    )


def _region(control: Control, model: Model, route: RegionRoute) -> RegionView:
    declared: dict[str, int] = {}
    effective: dict[str, int] = {}
    for target in route.targets:
        declared[target.version] = declared.get(target.version, 0) + target.declared
        effective[target.version] = effective.get(target.version, 0) + target.weight
    counts = control.totals.observed(model.name, route.region)
    total = sum(counts.values())
    observed = {version: 100 * counts.get(version, 0) / total for version in {**effective, **counts}} if total else {}
    return RegionView(
        stable=route.targets[route.stable].version,
        declared=_percent(declared),
        effective=_percent(effective),
        observed={version: round(share, 2) for version, share in observed.items()},
        rate=round(control.totals.rate(model.name, route.region), 3),
    )


def _percent(weights: Mapping[str, int]) -> Percentages:
    return {version: weight / 100 for version, weight in weights.items()}


def _versions(control: Control, model: Model, region: str | None) -> dict[str, VersionView]:
    if model.config is None:
        return {}
    regions = control.setup.regions if region is None else (region,)
    return {version: _version(control, model, version, regions) for version in model.config.versions}


def _version(control: Control, model: Model, version: str, regions: tuple[str, ...]) -> VersionView:
    facts = []
    counts: dict[str, int] = {}
    for region in regions:
        need = model.needs.get((version, region))
        facts.append(control.controller.fact(need) if need is not None else NO_UPSTREAM)
        tally = control.totals.tallies.get((model.name, version, region))
        for result, n in (tally.results() if tally else {}).items():
            counts[result] = counts.get(result, 0) + n
    worst = min(facts, key=lambda fact: WORST_FIRST.index(fact.shown))
    canary = control.helm.steering.canaries(model.name).get(version)
    state, reason = (worst.shown, worst.reason) if canary is None else _canary_state(model, canary, worst)
    rulings = control.gatekeeper.rulings(model.name, version)
    if state == "ready" and (held := _held_back(model, version, rulings)):
        state, reason = "gated", held
    endpoints = dict.fromkeys(endpoint for fact in facts for endpoint in fact.endpoints)
    return VersionView(
        state=state,
        reason=reason,
        counts=counts,
        resolved=dict(worst.resolved) or None,
        digest=worst.digest,
        endpoints=[EndpointView(address=_address(endpoint), healthy=endpoint.healthy) for endpoint in endpoints],
        evidence=evidence_of(canary),
        verdict=verdict_of(canary),
        gates=_findings(rulings),
        rollout=rollout_of(canary),
    )


def _held_back(model: Model, version: str, rulings: Sequence[Ruling | None]) -> str:
    """Why its gates hold `version` back; empty where they do not, in no region."""
    regions = model.route.regions.values() if model.route is not None else ()
    if not any(target.version == version and target.state == "gated" for there in regions for target in there.targets):
        return ""
    return next((ruling.reason if ruling else PENDING for ruling in rulings if not (ruling and ruling.passed)), "")


def _findings(rulings: Sequence[Ruling | None]) -> list[FindingView]:
    """Those of the ruling that holds it back, or of any other."""
    known = sorted((ruling for ruling in rulings if ruling is not None), key=lambda ruling: ruling.passed)
    found = known[0].findings if known else []
    return [FindingView.model_validate(msgspec.to_builtins(finding)) for finding in found]


def _canary_state(model: Model, canary: Canary, fact: Fact) -> tuple[State, str]:
    """What is in force: a rollback that workers are not told of yet is none."""
    regions = model.route.regions.values() if model.route is not None else ()
    targets = [target for region in regions for target in region.targets if target.version == canary.version]
    if canary.rolled_back and canary.state is not None and any(target.state == "rolled_back" for target in targets):
        return "rolled_back", canary.state.reason
    if fact.shown == "ready" and not canary.settled:
        return "gated", "its first weight is not written in the audit trail yet"
    return fact.shown, fact.reason


def _address(endpoint: Endpoint) -> str:
    if endpoint.network == "unix":
        return f"unix:{endpoint.address}"
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{'https' if endpoint.network == 'tls' else 'http'}://{host}:{endpoint.port}{endpoint.base_path}"


def _problem(problem: Problem) -> ProblemView:
    return ProblemView(
        file=problem.file, line=problem.line, column=problem.column, path=problem.path, message=problem.message
    )


def _version_problems(model: Model, versions: Mapping[str, VersionView]) -> list[ProblemView]:
    return [
        ProblemView(file=f"models/{model.name}.yaml", path=f"versions.{name}", message=view.reason)
        for name, view in versions.items()
        if view.state == "unready"
    ]
