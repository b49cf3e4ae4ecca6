"""What a canary's config plans for it: which weight, where and when.

Rules:
1. A plan is immutable and follows from the config, the regions this router serves, and what the canary is.
2. Weights set by hand are the plan without steps: they are what the config says, from the start.
3. A rollout goes through all steps in its first stage, then through all in the second. A stage is one region, or all
   of them; where this router serves none of it, it is passed over.
4. The digest of a plan is that of the canary's resolved model or upstream set and of its rollout, and of nothing else:
   a latch, and the position in a rollout, hold exactly as long as it stays the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from router.config.schema import ModelConfig, Rollout

PROOF_ABOVE = 2_500
"""A step with more weight (hundredths of a percent) is entered by proof only; below, proof would take too long."""


class Position(NamedTuple):
    """A step of a stage, both counted from 0."""

    stage: int
    step: int


class Rung(msgspec.Struct, frozen=True):
    """One step: `weight` in hundredths of a percent, `hold` in seconds."""

    weight: int
    hold: float = 0.0
    approval: bool = False


class Plan(msgspec.Struct, frozen=True):
    """The plan for one canary of one model.

    `stages` has the regions that this router serves, stage by stage; `steps` is empty where weights are set by hand,
    which `by_hand` then has by region, in hundredths of a percent. `patience` (seconds) is how long a step may last
    without having shown enough.
    """

    model: str
    canary: str
    digest: str
    stages: tuple[tuple[str, ...], ...] = ()
    steps: tuple[Rung, ...] = ()
    by_hand: Mapping[str, int] = {}
    min_requests: int = 0
    patience: float = 0.0

    @property
    def automatic(self) -> bool:
        """Whether there is a rollout, and this router serves a region that it goes to."""
        return bool(self.steps) and any(self.stages)

    @property
    def first(self) -> Position:
        """The first step of the first stage that has a region here."""
        return Position(self._stage_from(0), 0)

    def after(self, position: Position) -> Position | None:
        """The step after `position`; None where there is none. A stage without a region here is left at once."""
        stage, step = position
        if self._regions(stage) and step + 1 < len(self.steps):
            return Position(stage, step + 1)
        following = self._stage_from(stage + 1)
        return Position(following, 0) if following < len(self.stages) else None

    def rung(self, position: Position) -> Rung:
        """The step at `position`; before the first one, one without weight."""
        return self.steps[position.step] if position.step >= 0 else Rung(0)

    def weight_at(self, position: Position, region: str) -> int:
        """The weight in `region`, in hundredths of a percent, while the rollout is at `position`."""
        stage = next((index for index, regions in enumerate(self.stages) if region in regions), len(self.stages))
        if stage > position.stage:
            return 0
        return self.steps[-1].weight if stage < position.stage else self.rung(position).weight

    def where(self, position: Position) -> str:
        """`position` in words: `step 2 of 4 in eu-west`."""
        regions = ", ".join(self._regions(position.stage))
        return f"step {position.step + 1} of {len(self.steps)} in {regions or 'no region of this router'}"

    def is_served(self, position: Position) -> bool:
        """Whether this router serves a region of the stage of `position`."""
        return bool(self._regions(position.stage))

    def _regions(self, stage: int) -> tuple[str, ...]:
        return self.stages[stage] if stage < len(self.stages) else ()

    def _stage_from(self, start: int) -> int:
        return next((index for index in range(start, len(self.stages)) if self.stages[index]), len(self.stages))


def plan_of(config: ModelConfig, canary: str, served_regions: Sequence[str], *, digest: str) -> Plan:
    """The plan for `canary`, a version of `config`.

    Args:
        config: the model's config, already validated.
        canary: the version.
        served_regions: the regions this router has a listener for.
        digest: the canary's, from `latch_digest`.
    """
    rollout = config.rollout
    if rollout is None or rollout.canary != canary:
        by_hand = {
            region: config.weights_in(region).get(canary, 0)
            for region in served_regions
            if config.stable_in(region) != canary
        }
        return Plan(config.model, canary, digest, by_hand=by_hand)
    stages = [
        tuple(region for region in served_regions if rollout.stage_of(region) == stage)
        for stage in range(len(rollout.regions or ("all",)))
    ]
    return Plan(
        model=config.model,
        canary=canary,
        digest=digest,
        stages=tuple(stages),
        steps=tuple(Rung(step.weight, step.hold, step.approval) for step in rollout.steps),
        min_requests=rollout.promote_when.min_requests,
        patience=rollout.inconclusive_after,
    )


def latch_digest(resolved: Iterable[str], rollout: Rollout | None) -> str:
    """SHA-256 (hex) of what a latch holds for.

    Args:
        resolved: what the canary is: the digests of its pinned model or upstream set in each region, in any order.
        rollout: the canary's rollout; None where its weights are set by hand.
    """
    # What the canary is called is none of what it is.
    steps = rollout.model_dump(mode="json", exclude={"canary"}) if rollout else None
    content = {"resolved": sorted(set(resolved)), "rollout": steps}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
