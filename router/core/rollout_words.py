"""What a rollout decides, in words for people.

Rules:
1. One sentence each: who, what, where, with numbers, and why.
2. A refusal says what holds instead, and which command would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router.config.scalars import format_weight
from router.core.plan import Plan
from router.core.rollout_state import COUNTING, Command, ConfigChanged, Event, Move, Phase, RolloutState

_WHY_NOT: Mapping[str, str] = MappingProxyType(
    {
        "approve": "nothing waits for approval",
        "resume": "it is not paused",
        "readmit": "it is not rolled back",
    }
)
_INSTEAD: Mapping[Phase, str] = MappingProxyType(
    {
        "idle": "its weights are set by hand, in the config",
        "awaiting_approval": "the next step waits for `approve`",
        "paused": "it is paused; `resume` goes on, `promote` enters the next step",
        "rolled_back": "it is rolled back; `readmit` lifts that",
        "completed": "its rollout is completed",
    }
)


def reason_of(before: RolloutState, after: RolloutState, move: Move, event: Event, plan: Plan) -> str:
    """Why an effect led from `before` to `after`."""
    canary, why = before.canary, _why(before, event)
    at = _where(after, plan)
    sentences: dict[Move, str] = {
        "advance": f"{canary} enters {at}",
        "complete": f"{canary} has completed its rollout, at {format_weight(plan.rung(after.position).weight)}",
        "ask": f"{canary} waits for approval of {_where_next(before, plan)}",
        "report": f"{canary} has not shown enough in {span(before.held)} of {at}",
        "pause": f"{canary} pauses in {at}",
        "resume": f"{canary} goes on in {at}",
        "rollback": f"{canary} is rolled back from {at}",
        "readmit": f"{canary} is readmitted and begins with {at}",
        "start": f"{canary} begins with {at}",
    }
    lacks = " and ".join(missing(before, plan)) if move == "report" else ""
    told = "; ".join(part for part in (why, lacks and f"it lacks {lacks}") if part)
    return f"{sentences[move]}: {told}" if told else sentences[move]


def refusal_of(state: RolloutState, command: str, why: str = "") -> str:
    """Why `command` does not apply; `why` overrides what the phase would say."""
    told = why or _INSTEAD.get(state.phase) or _WHY_NOT[command]
    return f"`{command}` does not apply to {state.canary}: {told}"


def missing(state: RolloutState, plan: Plan) -> tuple[str, ...]:
    """What the step must still see before it can be left, evidence aside; empty where that is nothing."""
    if state.phase not in COUNTING or not plan.is_served(state.position):
        return ()
    left = plan.rung(state.position).hold - state.held
    wanted = plan.min_requests - state.requests if plan.after(state.position) else 0
    lacks = [f"{span(left)} of its hold"] if left > 0 else []
    return (*lacks, f"{wanted} more requests of {state.canary}") if wanted > 0 else tuple(lacks)


def span(seconds: float) -> str:
    """`seconds` for reading: `45s`, `9m 30s`, `23h 5m`."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole}s"
    large, small, names = (whole // 60, whole % 60, "ms") if whole < 3600 else (whole // 3600, whole % 3600 // 60, "hm")
    return f"{large}{names[0]} {small}{names[1]}" if small else f"{large}{names[0]}"


def _why(before: RolloutState, event: Event) -> str:
    if event.reason or isinstance(event, ConfigChanged):
        return event.reason
    if isinstance(event, Command):
        return f"`{event.name}`"
    return f"{span(before.held)} held, {before.requests} requests of {before.canary}, verdict {event.verdict}"


def _where(state: RolloutState, plan: Plan) -> str:
    if not plan.steps:
        return "the weights set by hand"
    if state.step_index < 0:
        return "no weight, before its first step"
    return f"{plan.where(state.position)}, {format_weight(plan.rung(state.position).weight)}"


def _where_next(state: RolloutState, plan: Plan) -> str:
    following = plan.after(state.position)
    return f"{plan.where(following)}, {format_weight(plan.rung(following).weight)}" if following else "its end"
