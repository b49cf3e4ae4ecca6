"""What the API shows of a canary: evidence, verdict, and where it stands.

Rules:
1. Reads only, on the event loop.
2. What does not apply is null or empty; JSON has no infinity, so a number beyond all others is shown as the largest.
"""

from __future__ import annotations

import sys

import msgspec

from router.control.canary import Canary
from router.core.plan import Plan
from router.core.rollout import declared_weight
from router.core.rollout_state import RolloutState
from router.core.rollout_words import missing
from router.web.schemas import GuardView, RolloutView, VerdictView


def evidence_of(canary: Canary | None) -> dict[str, GuardView]:
    """Where each guard of `canary` stands."""
    if canary is None or canary.evidence is None:
        return {}
    shown = {}
    for reading in canary.evidence.readings():
        fields = {name: _finite(value) for name, value in msgspec.structs.asdict(reading).items()}
        shown[reading.guard] = GuardView.model_validate({**fields, "fired": reading.fired})
    return shown


def _finite(value: object) -> object:
    return min(value, sys.float_info.max) if isinstance(value, float) else value


def verdict_of(canary: Canary | None) -> VerdictView | None:
    """What the evidence says of `canary`, where it was looked at."""
    verdict = canary.verdict if canary is not None else None
    if verdict is None:
        return None
    return VerdictView(kind=verdict.kind, guard=verdict.guard, reason=verdict.reason, missing=verdict.missing)


def rollout_of(canary: Canary | None) -> RolloutView | None:
    """Where `canary` stands; None before its first state is written."""
    if canary is None or canary.plan is None or canary.state is None or not canary.settled:
        return None
    plan, state = canary.plan, canary.state
    regions = [*plan.by_hand, *(region for stage in plan.stages for region in stage)]
    hold = plan.rung(state.position).hold if plan.steps else 0.0
    return RolloutView(
        phase=state.phase,
        step=state.step_index + 1,
        steps=len(plan.steps),
        regions=list(canary.stage),
        declared={region: declared_weight(plan, state, region) / 100 for region in regions},
        held=state.held,
        hold=hold,
        countdown=max(0.0, hold - state.held) if _holds(plan, state) else None,
        requests=state.requests,
        min_requests=plan.min_requests,
        missing=list(missing(state, plan)),
        revision=state.revision,
        reason=state.reason,
        pending=canary.under_way is not None,
    )


def _holds(plan: Plan, state: RolloutState) -> bool:
    return plan.automatic and state.phase in {"holding", "progressing", "inconclusive"}
