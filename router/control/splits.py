"""Who gets which version under a config, and who moves when another config takes its place.

Rules:
1. The slots are those that the data plane would use: they are compiled by the same function, with every version ready.
2. What moves is counted slot by slot where the key stays the same, and is then exact. Under another key every user is
   drawn anew, and only the expectation can be told.
3. A version is what answers, not its name: a name that stands for another model afterwards is another version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from router.config.schema import ModelConfig
from router.control.needs import ForwardNeed, Need, needs_of
from router.core.plan import Plan, Position, plan_of
from router.core.rollout import begin, declared_weight
from router.core.snapshot import RegionRoute, VersionFacts, compile_model
from router.core.split import SLOTS


@dataclass(frozen=True, slots=True)
class Move:
    """`share` of all requests (hundredths of a percent) goes from version `source` to version `target`."""

    source: str
    target: str
    share: int


@dataclass(frozen=True, slots=True)
class Movement:
    """What a change of one region's split does to those who have a key.

    `moved` and `needless` are shares in hundredths of a percent; `needless` is what no change of weights asked for:
    users who leave a version although it has room for them. `exact` is false where it is an expectation (rule 2).
    """

    moves: tuple[Move, ...] = ()
    moved: int = 0
    needless: int = 0
    exact: bool = True


def split_of(config: ModelConfig, region: str, canary_weight: int | None = None) -> RegionRoute:
    """The split of `region` once every version is ready.

    Args:
        config: the model's config.
        region: the region.
        canary_weight: what the canary of the config's rollout has there, in hundredths of a percent; None without one.
    """
    facts = {key: VersionFacts("ready", digest=identity_of(need)) for key, need in needs_of(config, (region,)).items()}
    for version in config.versions:
        facts.setdefault((version, region), VersionFacts("ready"))
    weights = {}
    if config.rollout is not None and canary_weight is not None:
        weights = {(config.rollout.canary, region): canary_weight}
    return compile_model(config, (region,), facts, {}, digest="", weights=weights).regions[region]


def identity_of(need: Need) -> str:
    """What a version is, as far as a config tells: two with the same identity answer alike."""
    return f"forward {need.digest}" if isinstance(need, ForwardNeed) else f"load {need.uri}"


def weights_of(split: RegionRoute) -> dict[str, int]:
    """The versions that have weight, in the order of the config, with their hundredths of a percent."""
    return {target.version: target.weight for target in split.targets if target.weight}


def ladder_of(config: ModelConfig, region: str, regions: tuple[str, ...]) -> tuple[int, ...]:
    """The weights that a rollout gives its canary in `region`, in their order, from the start; empty without one."""
    if config.rollout is None or config.rollout.stage_of(region) is None:
        return ()
    plan = plan_of(config, config.rollout.canary, regions, digest="")
    weights = [declared_weight(plan, begin(plan), region)]
    for position in _positions(plan):
        weight = plan.weight_at(position, region)
        if weight != weights[-1]:
            weights.append(weight)
    return tuple(weights)


def _positions(plan: Plan) -> Iterator[Position]:
    position: Position | None = plan.first if plan.automatic else None
    while position is not None:
        yield position
        position = plan.after(position)


def movement(before: RegionRoute, after: RegionRoute, *, same: Mapping[str, bool], same_key: bool) -> Movement:
    """Who moves where when `after` takes the place of `before`.

    Args:
        before: the split until now.
        after: the split from then on.
        same: by the name of a version that both have, whether it is the same model under both (rule 3).
        same_key: whether a user's key stays what it is.
    """
    shares = _by_slot(before, after) if same_key else _by_chance(before, after)
    moves = tuple(
        Move(source, target, share)
        for (source, target), share in shares.items()
        if share and not (source == target and same.get(source, False))
    )
    moved = sum(move.share for move in moves)
    return Movement(moves, moved, _needless(before, after, moves, same) if same_key else 0, same_key)


def _by_slot(before: RegionRoute, after: RegionRoute) -> dict[tuple[str, str], int]:
    shares: dict[tuple[str, str], int] = {}
    start = 0
    for end in sorted({*before.slots.ends, *after.slots.ends}):
        pair = (_version_at(before, start), _version_at(after, start))
        shares[pair] = shares.get(pair, 0) + end - start
        start = end
    return shares


def _by_chance(before: RegionRoute, after: RegionRoute) -> dict[tuple[str, str], int]:
    return {
        (source, target): round(share * other / SLOTS)
        for source, share in weights_of(before).items()
        for target, other in weights_of(after).items()
    }


def _version_at(split: RegionRoute, slot: int) -> str:
    return split.targets[split.slots.version_at(slot)].version


def _needless(before: RegionRoute, after: RegionRoute, moves: tuple[Move, ...], same: Mapping[str, bool]) -> int:
    """What left versions that are still there, beyond what they lost in weight."""
    needless = 0
    later = weights_of(after)
    for version, weight in weights_of(before).items():
        if same.get(version, False):
            left = sum(move.share for move in moves if move.source == version)
            needless += max(0, left - max(0, weight - later.get(version, 0)))
    return needless
