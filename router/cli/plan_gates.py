"""The gates in a traffic plan: what the versions that a change brings in show of what is asked of them.

Rules:
1. Asked are versions that get weight which they had not, or that become stable; each once, beside one stable.
2. At most `MOST` are looked at, two at a time: a plan is read by somebody who waits for it. The rest are named.
3. Where no registry is known, or it does not answer, the plan says so; it is none the less a plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from router.cli.gate_looks import Looker
from router.config.schema import ModelConfig
from router.control.plan_types import GateReport, ModelPlan, TrafficPlan, Warned
from router.errors import RouterError
from router.gates.evaluate import names_in

MOST = 20


def with_gates(
    plan: TrafficPlan, configs: Mapping[str, ModelConfig], registry: Callable[[], str | None]
) -> TrafficPlan:
    """`plan` with what its versions show; `registry` is asked for only where some gate is."""
    asked = [(model, version, region) for model in plan.models for version, region in _coming_in(model, configs)]
    if not asked:
        return plan
    try:
        looked_at = [(configs[model.model], version, region) for model, version, region in asked[:MOST]]
        reports = asyncio.run(_look(looked_at, registry()))
    except RouterError as error:
        reports = [GateReport(version, "", problem=error.message) for _, version, _ in asked]
    reports += [
        GateReport(version, "", problem=f"only {MOST} versions are looked at in one plan") for _, version, _ in asked
    ][len(reports) :]
    found: dict[str, list[GateReport]] = {}
    for (model, _, _), report in zip(asked, reports, strict=True):
        found.setdefault(model.model, []).append(report)
    return replace(plan, models=tuple(replace(model, gates=tuple(found.get(model.model, ()))) for model in plan.models))


def with_own_approvals(plan: TrafficPlan, configs: Mapping[str, ModelConfig], authors: frozenset[str]) -> TrafficPlan:
    """`plan` with a warning where an author of the change is among those who approved, and `approvals` forbids it."""
    return replace(plan, models=tuple(_warned(model, configs.get(model.model), authors) for model in plan.models))


def _warned(model: ModelPlan, config: ModelConfig | None, authors: frozenset[str]) -> ModelPlan:
    approvals = config.gates.approvals if config is not None and config.gates is not None else None
    if approvals is None or not approvals.not_by_author:
        return model
    known = {name.lower() for author in authors for name in (author, author.partition("@")[0])}
    warnings = [
        Warned("approval", "", f"{name} approved {report.version} and wrote this change; let somebody else approve")
        for report in model.gates
        for finding in report.findings
        if finding.gate == "approvals"
        for name in names_in(finding.found)
        if name.lower() in known
    ]
    return replace(model, warnings=(*model.warnings, *warnings))


def _coming_in(model: ModelPlan, configs: Mapping[str, ModelConfig]) -> Iterator[tuple[str, str]]:
    """Version and region, each version once beside each stable (rule 1)."""
    config = configs.get(model.model)
    if config is None or config.gates is None:
        return
    seen = set()
    for region in model.regions:
        named = {version for version, weight in region.after.items() if weight}
        if region.ladder:
            named.add(region.canary)
        for version in config.versions:
            new = version in model.redefined or not region.before.get(version)
            becomes_stable = version == region.stable_after != region.stable_before
            pair = (version, region.stable_after)
            # The first stable of a model is let in, whatever it shows.
            first = not region.before and version == region.stable_after
            if version in named and (new or becomes_stable) and not first and pair not in seen:
                seen.add(pair)
                yield version, region.region


async def _look(asked: list[tuple[ModelConfig, str, str]], registry: str | None) -> list[GateReport]:
    looker = Looker(registry, thorough=False)
    return list(await asyncio.gather(*(looker.look(config, version, region) for config, version, region in asked)))
