"""Where a canary stands, what may happen to it, and what comes of that: the types of `rollout`.

Rules:
1. Frozen, and complete: what is decided next follows from the state, the event and the plan alone.
2. A state can be stored by one release and read by another: fields are named, new ones have defaults.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from router.core.plan import Position

Phase = Literal[
    "idle", "holding", "progressing", "awaiting_approval", "paused", "inconclusive", "rolled_back", "completed"
]
"""`holding`: the step's hold runs. `progressing`: it is over, and evidence for the next step is being gathered."""

COUNTING: frozenset[Phase] = frozenset({"holding", "progressing", "inconclusive"})
"""In these, time and requests add up."""

VerdictKind = Literal["pass", "fail", "inconclusive", "error"]
CommandName = Literal["promote", "promote_all", "pause", "resume", "rollback", "readmit", "approve"]
Signal = Literal[
    "failed", "early", "waiting", "overdue", "ready", "ready_for_approval", "ready_at_end",
    "promote", "promote_at_end", "promote_all", "pause", "resume", "rollback", "readmit", "approve",
    "unchanged", "changed",
]  # fmt: skip
Move = Literal[
    "stay", "gather", "advance", "complete", "ask", "report", "pause", "resume", "rollback", "readmit", "start"
]


class RolloutState(msgspec.Struct, frozen=True):
    """Where one canary stands. `encode` and `decode` keep it.

    `region_index` and `step_index` count the plan's stages and steps from 0; -1 is before the first step. `held` are
    the seconds and `requests` the canary's requests that this step has seen. `resume_phase` is what a pause
    interrupted. `revision` counts effects, `reason` says why the last one was.
    """

    model: str
    canary: str
    digest: str
    phase: Phase = "idle"
    region_index: int = 0
    step_index: int = -1
    held: float = 0.0
    requests: int = 0
    resume_phase: Phase = "idle"
    revision: int = 0
    reason: str = ""

    @property
    def position(self) -> Position:
        """The step it is in."""
        return Position(self.region_index, self.step_index)

    @property
    def rolled_back(self) -> bool:
        """Whether a latch holds: then its effective weight is 0 everywhere."""
        return self.phase == "rolled_back"


class Tick(msgspec.Struct, frozen=True):
    """A moment has passed.

    `seconds` (monotonic) and `requests` (of the canary, in the regions of the present stage) came since the tick
    before, and only while the canary had its declared weight. `quiet`: no guard is close to firing. `reason`: the
    verdict in one sentence.
    """

    verdict: VerdictKind
    seconds: float = 0.0
    requests: int = 0
    quiet: bool = True
    reason: str = ""


class Command(msgspec.Struct, frozen=True):
    """An operator's wish. `expect`: the revision it was given for; None for whatever there is."""

    name: CommandName
    reason: str = ""
    expect: int | None = None


class ConfigChanged(msgspec.Struct, frozen=True):
    """The plan may be another one."""

    reason: str = ""


Event: TypeAlias = Tick | Command | ConfigChanged


class Decision(msgspec.Struct, frozen=True):
    """What comes of an event: the state from now on, and by which move. `reason` is one sentence."""

    state: RolloutState
    move: Move
    reason: str = ""

    @property
    def effect(self) -> bool:
        """Whether there is something to audit and apply; else the state may be kept whenever convenient."""
        return self.move not in {"stay", "gather"}

    @property
    def forgets_evidence(self) -> bool:
        """Whether evidence gathered until now must not be held against the canary any more."""
        return self.move in {"readmit", "start"}


class Refused(msgspec.Struct, frozen=True):
    """A command that does not apply to `state`, and why."""

    state: RolloutState
    reason: str


def encode(state: RolloutState) -> bytes:
    """`state` as it is stored."""
    return msgspec.json.encode(state)


def decode(stored: bytes) -> RolloutState:
    """The state in `stored`, also where another release wrote fields that this one does not know.

    Raises:
        msgspec.DecodeError: it holds none.
    """
    return msgspec.json.decode(stored, type=RolloutState)
