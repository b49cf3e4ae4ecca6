"""What a reviewer should look at twice before a change goes to production.

Rules:
1. A warning names the model, where it applies, and what to do instead; it never stops anything by itself.
2. Nothing is warned of that the change did not bring about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from router.config.fields import DEFAULT_REGION
from router.config.problems import did_you_mean
from router.config.scalars import ALL, format_weight
from router.config.schema import ModelConfig, Stickiness
from router.control.plan_types import RegionPlan, Warned

DAY = 24 * 3600.0
SEEN_WITHIN_A_DAY = 0.05
"""The regression that guards should see within a day."""


def warnings_of(
    old: ModelConfig | None,
    new: ModelConfig | None,
    regions: Sequence[RegionPlan],
    redefined: Sequence[str],
    served: Sequence[str] | None,
) -> tuple[Warned, ...]:
    """The warnings about one model.

    Args:
        old: its config before; None for a new model.
        new: its config afterwards; None for one that is removed.
        regions: what changes, by region.
        redefined: names that stand for another model afterwards.
        served: the regions there are; None where nobody wrote them down.
    """
    if new is None:
        return (Warned("removed", "", "the model is removed: its clients get 404"),)
    found: list[Warned] = [*_unknown_regions(old, new, served)]
    if old is not None:
        found += [warned for region in regions for warned in _jumps(region, redefined)]
        found += _stickiness(old, new, regions)
        found += [warned for region in regions for warned in _needless(region)]
    found += [warned for region in regions for warned in _unseen(region)]
    return tuple(found)


def _jumps(region: RegionPlan, redefined: Iterable[str]) -> Iterator[Warned]:
    if not region.before:
        return
    for version, weight in region.after.items():
        before = 0 if version in redefined else region.before.get(version, 0)
        if weight == ALL and before == 0:
            what = "another model under the same name" if version in redefined else f"{version}"
            message = f"{what} goes from 0% to 100% at once; give it a few percent first, or a rollout"
            yield Warned("jump", region.region, message)
    if region.ladder[:2] == (0, ALL):
        yield Warned("jump", region.region, "the rollout's first step is 100%; put steps with less weight before it")


def _unknown_regions(old: ModelConfig | None, new: ModelConfig, served: Sequence[str] | None) -> Iterator[Warned]:
    if served is None:
        return
    for region in _named(new):
        if region not in served and region != DEFAULT_REGION and (old is None or region not in _named(old)):
            hint = did_you_mean(region, served)
            yield Warned("region", region, f"no region {region!r} is known here{hint}: nobody would be served by it")


def _named(config: ModelConfig) -> list[str]:
    listed = config.rollout.regions if config.rollout is not None else None
    return list(dict.fromkeys((*config.regions, *config.stable, *(listed or ()))))


def _stickiness(old: ModelConfig, new: ModelConfig, regions: Sequence[RegionPlan]) -> Iterator[Warned]:
    if old.stickiness is None or old.stickiness == new.stickiness:
        return
    before = _key(old.stickiness)
    moved = max((region.movement.moved for region in regions), default=0)
    share = f"about {format_weight(moved)} of them get another version"
    if new.stickiness is None:
        message = f"the sticky key ({before}) is removed: users no longer keep a version; at the change {share}"
    else:
        message = f"the sticky key changes ({before} → {_key(new.stickiness)}): every user is drawn anew, {share}"
    yield Warned("stickiness", "", message)


def _key(stickiness: Stickiness) -> str:
    return f"header {stickiness.header}" if stickiness.header else f"cookie {stickiness.cookie}"


def _needless(region: RegionPlan) -> Iterator[Warned]:
    share = region.movement.needless
    if share:
        message = (
            f"{format_weight(share)} of the users leave a version that still has room for them; keep the order of "
            "`versions`, and append new ones"
        )
        yield Warned("flip", region.region, message)


def _unseen(region: RegionPlan) -> Iterator[Warned]:
    """Canaries that could fail at 5% for a day without being rolled back, as far as a rate is known."""
    told: set[str] = set()
    for power in region.power:
        if power.error_rate != SEEN_WITHIN_A_DAY or power.version in told:
            continue
        # A rollout is judged by the first weight it gives; at its end no stable is left to compare with, as intended.
        told.add(power.version)
        if power.requests is None:
            message = (
                f"no guard would roll {power.version} back at {format_weight(power.weight)} if {SEEN_WITHIN_A_DAY:.0%} "
                "of its requests failed; leave stable some weight beside it, or lower guards.error_rate.max"
            )
            yield Warned("blind", region.region, message)
        elif power.seconds is not None and power.seconds > DAY:
            message = (
                f"at this rate {power.version} would fail {SEEN_WITHIN_A_DAY:.0%} of its requests for "
                f"{power.seconds / DAY:.1f} days before it is rolled back; give it more than "
                f"{format_weight(power.weight)}"
            )
            yield Warned("blind", region.region, message)
