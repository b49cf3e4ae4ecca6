"""How a canary's weight changes: phase × signal → move, as a table.

Rules:
1. Pure: time and requests are handed in, as what came since the tick before. They add up in the state, so a restart
   or a clock that jumps changes no decision; what was not stored yet makes a hold longer, never shorter.
2. A failed verdict rolls back from every phase; so does the command. Both are latched: nothing but `readmit` or another
   plan leaves `rolled_back`.
3. A step is left for the next one when its hold is over, the guards are quiet and it saw enough requests of the canary;
   for one above `PROOF_ABOVE` the verdict must have passed as well. Without evidence (`error`) nothing is left.
4. A step that needs approval is entered by `approve` once rule 3 holds for it, and by nothing but commands.
5. A step that lasted longer than the plan's patience is `inconclusive`: told once, and held. It goes on by rule 3 or by
   a command, never by time.
6. While paused, nothing counts and nothing is entered; guards go on guarding. `promote` ends a pause.
7. `promote` enters what comes next without waiting for anything, `promote_all` goes to the end.
8. Weights set by hand have the phase `idle`: they can be rolled back and readmitted, and nothing else applies.
9. Another plan (its digest) starts anew; the same one keeps everything.
10. A command that does not apply, or was given for a state that is not the present one, changes nothing and says why.
11. Every effect raises the revision by one; where it stays the same, there is nothing to tell and nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from router.core.plan import PROOF_ABOVE, Plan, Position
from router.core.rollout_state import (
    COUNTING,
    Command,
    ConfigChanged,
    Decision,
    Event,
    Move,
    Phase,
    Refused,
    RolloutState,
    Signal,
    Tick,
    decode,
    encode,
)
from router.core.rollout_words import reason_of, refusal_of

__all__ = ["TABLE", "TARGET", "begin", "decide", "declared_weight", "decode", "encode", "weight_in_force"]

_IN_STEP: dict[Signal, Move] = {
    "failed": "rollback",
    "early": "stay",
    "waiting": "gather",
    "overdue": "report",
    "ready": "advance",
    "ready_for_approval": "ask",
    "ready_at_end": "complete",
    "promote": "advance",
    "promote_at_end": "complete",
    "promote_all": "complete",
    "pause": "pause",
    "rollback": "rollback",
}
_AT_REST: dict[Signal, Move] = {
    "early": "stay",
    "waiting": "stay",
    "overdue": "stay",
    "ready": "stay",
    "ready_for_approval": "stay",
    "ready_at_end": "stay",
}
_GUARDED: dict[Signal, Move] = {**_AT_REST, "failed": "rollback", "rollback": "rollback"}
_PROMOTABLE: dict[Signal, Move] = {
    "promote": "advance",
    "promote_at_end": "complete",
    "promote_all": "complete",
}
_CONFIG: dict[Signal, Move] = {"unchanged": "stay", "changed": "start"}

TABLE: Mapping[Phase, Mapping[Signal, Move]] = MappingProxyType(
    {
        "idle": {**_GUARDED, **_CONFIG},
        "holding": {**_IN_STEP, **_CONFIG},
        "progressing": {**_IN_STEP, "waiting": "stay", **_CONFIG},
        "inconclusive": {**_IN_STEP, "waiting": "stay", "overdue": "stay", **_CONFIG},
        "awaiting_approval": {**_GUARDED, **_PROMOTABLE, "approve": "advance", "pause": "pause", **_CONFIG},
        "paused": {**_GUARDED, **_PROMOTABLE, "resume": "resume", **_CONFIG},
        "rolled_back": {**_AT_REST, "failed": "stay", "readmit": "readmit", **_CONFIG},
        "completed": {**_GUARDED, **_CONFIG},
    }
)
"""What is not listed does not apply; only commands can be in that case."""

TARGET: Mapping[Move, Phase | None] = MappingProxyType(
    {
        "stay": None,
        "gather": "progressing",
        "advance": "holding",
        "complete": "completed",
        "ask": "awaiting_approval",
        "report": "inconclusive",
        "pause": "paused",
        "resume": None,
        "rollback": "rolled_back",
        "readmit": None,
        "start": None,
    }
)
"""The phase that a move leads to; None where that depends on the state or the plan."""


def begin(plan: Plan, *, revision: int = 0, reason: str = "") -> RolloutState:
    """The state in which `plan` starts: in its first step, or waiting for approval of that.

    Args:
        plan: the plan.
        revision: what the state's shall be.
        reason: why it starts.
    """
    state = RolloutState(plan.model, plan.canary, plan.digest, revision=revision, reason=reason)
    if not plan.automatic:
        return state
    if plan.rung(plan.first).approval:
        return msgspec.structs.replace(state, phase="awaiting_approval", region_index=plan.first.stage)
    return _at(state, plan.first)


def decide(state: RolloutState, event: Event, plan: Plan) -> Decision | Refused:
    """What comes of `event`. Only commands are ever refused.

    Args:
        state: where the canary stands. One that was never seen before has the digest "", or that of `begin`.
        event: what happened. A tick or a command meant for another plan than the state's changes nothing.
        plan: the plan in force.
    """
    if isinstance(event, ConfigChanged):
        return _move(state, "unchanged" if state.digest == plan.digest else "changed", event, plan)
    if isinstance(event, Command):
        return _obey(state, event, plan)
    if state.digest != plan.digest:
        return Decision(state, "stay")
    state = _counted(state, event)
    return _move(state, _signal_of(state, event, plan), event, plan)


def declared_weight(plan: Plan, state: RolloutState, region: str) -> int:
    """What the canary's weight in `region` shall be, in hundredths of a percent, a latch aside."""
    return plan.weight_at(state.position, region) if plan.steps else plan.by_hand.get(region, 0)


def weight_in_force(plan: Plan, state: RolloutState, region: str) -> int:
    """As `declared_weight`, and 0 while a latch holds."""
    return 0 if state.rolled_back else declared_weight(plan, state, region)


def _obey(state: RolloutState, command: Command, plan: Plan) -> Decision | Refused:
    if state.digest != plan.digest:
        return Refused(state, refusal_of(state, command.name, "its config has just changed"))
    if command.expect not in {None, state.revision}:
        return Refused(state, refusal_of(state, command.name, f"something came first: {state.reason}"))
    at_end = command.name == "promote" and _ahead(state, plan) is None
    signal: Signal = "promote_at_end" if at_end else command.name
    if signal not in TABLE[state.phase]:
        return Refused(state, refusal_of(state, command.name))
    return _move(state, signal, command, plan)


def _counted(state: RolloutState, tick: Tick) -> RolloutState:
    """`state` with what the tick brought, where the phase counts (rules 1 and 6)."""
    if state.phase not in COUNTING:
        return state
    return msgspec.structs.replace(
        state, held=state.held + max(0.0, tick.seconds), requests=state.requests + max(0, tick.requests)
    )


def _signal_of(state: RolloutState, tick: Tick, plan: Plan) -> Signal:
    if tick.verdict == "fail":
        return "failed"
    if state.held < plan.rung(state.position).hold and plan.is_served(state.position):
        return "early"
    following = _ahead(state, plan)
    if _may_leave(state, tick, plan, following):
        if following is None:
            return "ready_at_end"
        return "ready_for_approval" if plan.rung(following).approval else "ready"
    return "overdue" if state.held >= plan.patience else "waiting"


def _may_leave(state: RolloutState, tick: Tick, plan: Plan, following: Position | None) -> bool:
    """Rule 3, but for the hold. The end needs no further requests: nothing rises there."""
    if tick.verdict == "error" or not tick.quiet:
        return False
    if following is None:
        return True
    proven = tick.verdict == "pass" or plan.rung(following).weight <= PROOF_ABOVE
    return proven and (state.requests >= plan.min_requests or not plan.is_served(state.position))


def _ahead(state: RolloutState, plan: Plan) -> Position | None:
    return plan.after(state.position) if plan.automatic else None


def _at(state: RolloutState, position: Position) -> RolloutState:
    stage, step = position
    return msgspec.structs.replace(
        state, phase="holding", region_index=stage, step_index=step, held=0.0, requests=0, resume_phase="idle"
    )


def _move(state: RolloutState, signal: Signal, event: Event, plan: Plan) -> Decision:
    move = TABLE[state.phase][signal]
    if move in {"stay", "gather"}:
        phase = TARGET[move] or state.phase
        return Decision(msgspec.structs.replace(state, phase=phase), move)
    after = _after(state, move, plan)
    reason = reason_of(state, after, move, event, plan)
    return Decision(msgspec.structs.replace(after, revision=state.revision + 1, reason=reason), move, reason)


def _after(state: RolloutState, move: Move, plan: Plan) -> RolloutState:
    """The state that an effect leads to."""
    if move in {"start", "readmit"}:
        return begin(plan)
    if move == "resume":
        return msgspec.structs.replace(state, phase=state.resume_phase, resume_phase="idle")
    if move == "pause":
        return msgspec.structs.replace(state, phase="paused", resume_phase=state.phase)
    following = _ahead(state, plan)
    if move == "advance" and following is not None:
        return _at(state, following)
    if move == "complete":
        end = _at(state, Position(len(plan.stages) - 1, len(plan.steps) - 1))
        return msgspec.structs.replace(end, phase="completed")
    return msgspec.structs.replace(state, phase=TARGET[move] or state.phase)
