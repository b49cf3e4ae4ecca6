"""Decisions in words: for the audit trail, and for people who are told.

Rules:
1. An entry says what was in force before and what will be after, with the numbers that it rests on.
2. Only what people act on is told: rollbacks, promotions, approvals that are waited for, steps that stay inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from router.control.canary import Canary, Step
from router.control.notify import Notice
from router.core.analysis import Verdict
from router.core.plan import Plan
from router.core.rollout import weight_in_force
from router.core.rollout_state import Move, RolloutState
from router.store.audit import AuditEntry, AuditRecord

ACTIONS: Mapping[Move, str] = {
    "start": "start",
    "advance": "promote",
    "complete": "promote",
    "ask": "ask",
    "report": "inconclusive",
    "pause": "pause",
    "resume": "resume",
    "rollback": "rollback",
    "readmit": "readmit",
}
"""What a move is called where nobody asked for it by another name."""

EVENTS: Mapping[Move, str] = {
    "rollback": "rollback",
    "advance": "promotion",
    "complete": "promotion",
    "ask": "approval",
    "report": "inconclusive",
}


def entry_of(step: Step, time: float, revision: str, digest: str) -> AuditEntry:
    """`step` for the audit trail. `time` in wall-clock seconds; `revision` and `digest` are the config's."""
    canary, decision = step.canary, step.decision
    return AuditEntry(
        time=time,
        actor=step.actor,
        action="promote" if step.asked == "promote_all" else step.asked or ACTIONS[decision.move],
        model=canary.model,
        version=canary.version,
        region=",".join(canary.stage),
        before=_shown(canary.plan, step.before),
        after=_shown(canary.plan, decision.state),
        reason=step.said or decision.reason,
        evidence=evidence_of(step.verdict),
        revision=revision,
        digest=digest,
    )


def _shown(plan: Plan | None, state: RolloutState | None) -> dict[str, Any]:
    if state is None or plan is None:
        return {}
    return {
        "phase": state.phase,
        "step": state.step_index + 1,
        "weights": weights_of(plan, state),
        "canary": state.digest,
        "revision": state.revision,
    }


def weights_of(plan: Plan, state: RolloutState) -> dict[str, float]:
    """What the canary may have in each region, in percent."""
    regions = [*plan.by_hand, *(region for stage in plan.stages for region in stage)]
    if state.digest != plan.digest:
        return dict.fromkeys(regions, 0.0)
    return {region: weight_in_force(plan, state, region) / 100 for region in regions}


def evidence_of(verdict: Verdict | None) -> dict[str, Any]:
    """The numbers behind `verdict`."""
    if verdict is None:
        return {}
    return {"verdict": verdict.kind, "guard": verdict.guard, "reason": verdict.reason, "readings": verdict.readings}


def notice_of(step: Step, time: float, record: AuditRecord | None) -> Notice | None:
    """What people are told of `step`, None where that is nothing (rule 2)."""
    decision, canary = step.decision, step.canary
    event = EVENTS.get(decision.move)
    if decision.move == "start" and decision.state.phase == "awaiting_approval":
        event = "approval"
    if event is None:
        return None
    by = f", by {step.actor}" if step.asked else ""
    said = f" ({step.said})" if step.said else ""
    details = record.shown() if record is not None else {"recorded": False, "reason": decision.reason}
    return Notice(uuid4().hex, event, time, canary.model, canary.version,
                  f"{canary.model}: {decision.reason}{by}{said}", details)  # fmt: skip


def alarm_of(canary: Canary, time: float, text: str) -> Notice:
    """The notice that a canary's share is not the declared one."""
    return Notice(uuid4().hex, "sample_ratio", time, canary.model, canary.version, f"{canary.model}: {text}")
