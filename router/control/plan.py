"""Two repositories of configs → what changes for traffic.

Rules:
1. Pure: what is compared was read before; nothing is contacted.
2. Only models that differ are in a plan. A model whose file is broken keeps what is in force, so nothing is planned
   for it; the problem is told instead.
3. A rollout's weights before the change are those of its last step, where more users would have to move than anywhere
   else; a rollout that the change leaves alone stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.config.fields import DEFAULT_REGION
from router.config.load import Loaded, digest_of
from router.config.schema import ModelConfig
from router.control.needs import ForwardNeed, LoadNeed, Need, needs_of
from router.control.plan_types import Assumptions, ModelPlan, RegionPlan, TrafficPlan, Warned
from router.control.plan_warnings import warnings_of
from router.control.power import Power, Simulator
from router.control.splits import Movement, ladder_of, movement, split_of, weights_of
from router.core.snapshot import RegionRoute

REGRESSIONS = (0.02, 0.05, 0.2)
"""Failure rates of a bad canary that power is told for."""

_TRAFFIC = frozenset({"model", "versions", "stable", "regions", "rollout", "owner", "description"})


_UNITS = {"timeout": "s", "attempt_timeout": "s", "max_body": " bytes", "buffer": " bytes"}


def compare(before: Loaded, after: Loaded, assumed: Assumptions) -> TrafficPlan:
    """What changes for traffic when the configs `after` take the place of `before`."""
    broken = {problem.model for problem in after.problems}
    names = sorted({*before.configs, *after.configs})
    simulator = Simulator(assumed.stable_error_rate)
    known = after.regions or before.regions
    models = []
    unchanged = 0
    for name in names:
        old, new = before.configs.get(name), after.configs.get(name)
        if new is None and (name in broken or not after.complete):
            continue
        if old is not None and new is not None and digest_of(old) == digest_of(new):
            unchanged += 1
            continue
        models.append(_Comparison(old, new, known, assumed, simulator).plan(name))
    return TrafficPlan(tuple(models), unchanged, after.problems)


class _Comparison:
    """One model before and after; one of the two may be absent."""

    def __init__(
        self,
        old: ModelConfig | None,
        new: ModelConfig | None,
        known: Sequence[str] | None,
        assumed: Assumptions,
        simulator: Simulator,
    ) -> None:
        self._old, self._new = old, new
        self._known = known
        self._assumed = assumed
        self._simulator = simulator
        self._regions = _regions_of([config for config in (old, new) if config is not None], known)
        self._needs_before = needs_of(old, self._regions) if old is not None else {}
        self._needs_after = needs_of(new, self._regions) if new is not None else {}
        self._goes_on = _same_rollout(old, new) and self._is_same(old.rollout.canary if old and old.rollout else "")

    def plan(self, name: str) -> ModelPlan:
        old, new = self._old, self._new
        regions = tuple(self._region(region) for region in self._regions)
        guards_changed = old is not None and new is not None and old.guards != new.guards
        regions = tuple(region for region in regions if region.changed or (guards_changed and region.power))
        change = "added" if old is None else "removed" if new is None else "changed"
        starts = tuple(v for v in _versions(new) if v not in _versions(old))
        stops = tuple(v for v in _versions(old) if v not in _versions(new))
        redefined = tuple(v for v in _versions(new) if v in _versions(old) and not self._is_same(v))
        served = self._known or self._assumed.served
        return ModelPlan(
            model=name,
            change=change,
            owner=new.owner if new is not None else old.owner if old is not None else "",
            regions=regions,
            starts=starts,
            stops=stops,
            redefined=redefined,
            settings=_settings(old, new) if old is not None and new is not None else (),
            notes=tuple(self._notes()),
            warnings=(*warnings_of(old, new, regions, redefined, served), *self._lifted(name)),
        )

    def _lifted(self, name: str) -> list[Warned]:
        """The rollbacks that hold now and would not afterwards."""
        held = self._assumed.live.rolled_back if self._assumed.live is not None else {}
        return [
            Warned("lifted", "", f"the rollback of {version} would be lifted; it holds because {held[name, version]}")
            for version in self._judged_anew()
            if (name, version) in held
        ]

    def _region(self, region: str) -> RegionPlan:
        before = self._split_before(region)
        after = self._split_after(region)
        moves = Movement()
        if before is not None and after is not None:
            same = {version: self._is_same(version, region) for version in _versions(self._old)}
            moves = movement(before, after, same=same, same_key=self._same_key)
        ladder = ladder_of(self._new, region, self._regions) if self._new is not None and not self._goes_on else ()
        return RegionPlan(
            region=region,
            before=weights_of(before) if before is not None else {},
            after=weights_of(after) if after is not None else {},
            stable_before=self._old.stable_in(region) if self._old is not None else "",
            stable_after=self._new.stable_in(region) if self._new is not None else "",
            canary=self._new.rollout.canary if self._new is not None and self._new.rollout is not None else "",
            ladder=ladder,
            movement=moves,
            power=tuple(self._power(region, after, ladder)) if after is not None else (),
        )

    def _split_before(self, region: str) -> RegionRoute | None:
        if self._old is None:
            return None
        ladder = ladder_of(self._old, region, self._regions)
        return split_of(self._old, region, ladder[-1] if ladder else None)

    def _split_after(self, region: str) -> RegionRoute | None:
        if self._new is None:
            return None
        ladder = ladder_of(self._new, region, self._regions)
        return split_of(self._new, region, (ladder[-1] if self._goes_on else ladder[0]) if ladder else None)

    def _power(self, region: str, after: RegionRoute, ladder: tuple[int, ...]) -> list[Power]:
        config = self._new
        if config is None:
            return []
        stable = config.stable_in(region)
        weights = weights_of(after)
        canaries = [(version, weight) for version, weight in weights.items() if version != stable]
        if ladder and config.rollout is not None:
            canary = config.rollout.canary
            canaries = [pair for pair in canaries if pair[0] != canary] + [(canary, step) for step in ladder if step]
        room = weights.get(stable, 0) + (ladder[0] if ladder else 0)
        found = []
        for version, weight in canaries:
            beside = room - weight if ladder and config.rollout and version == config.rollout.canary else room
            for error_rate in REGRESSIONS:
                power = self._simulator.power(
                    version, weight, max(0, beside), error_rate, config.guards, self._assumed.rate(config.model, region)
                )
                found += [power] if power is not None else []
        return found

    @property
    def _same_key(self) -> bool:
        return self._old is not None and self._new is not None and self._old.stickiness == self._new.stickiness

    def _is_same(self, version: str, region: str | None = None) -> bool:
        """Whether `version` is the same model before and after, in `region` or everywhere."""
        for where in self._regions if region is None else (region,):
            old, new = self._needs_before.get((version, where)), self._needs_after.get((version, where))
            if old is not None and new is not None and not _same_need(old, new):
                return False
        return version in _versions(self._old) and version in _versions(self._new)

    def _notes(self) -> list[str]:
        old, new = self._old, self._new
        notes = []
        if old is not None and old.rollout is not None and not self._goes_on:
            notes.append(
                f"before, the rollout of {old.rollout.canary} is taken to have reached its last step; "
                "`canary-router status` says where it is"
            )
        if old is not None and new is not None:
            if self._goes_on and new.rollout is not None:
                notes.append(f"the rollout of {new.rollout.canary} is the same: it stays where it is, and goes on")
            notes += [
                f"{version} is judged anew: its evidence starts from nothing, and a rollback that holds is lifted"
                for version in self._judged_anew()
            ]
        if (
            new is not None
            and new.stickiness is None
            and any(len(weights_of(split_of(new, r, None))) > 1 for r in self._regions)
        ):
            notes.append("there is no sticky key: each request is a draw of its own, and no user keeps a version")
        return notes

    def _judged_anew(self) -> list[str]:
        """The canaries of before and after whose latch digest changes."""
        if self._old is None or self._new is None:
            return []
        mine = _canaries(self._old, self._regions) & _canaries(self._new, self._regions)
        rollouts = (
            {config.rollout.canary for config in (self._old, self._new) if config.rollout is not None}
            if self._old.rollout != self._new.rollout
            else set()
        )
        resolved = {version for version, _ in self._changed_needs()}
        return [version for version in self._new.versions if version in mine and version in rollouts | resolved]

    def _changed_needs(self) -> list[tuple[str, str]]:
        return [
            key
            for key, need in self._needs_after.items()
            if key in self._needs_before and _digest(need) != _digest(self._needs_before[key])
        ]


def _regions_of(configs: Sequence[ModelConfig], known: Sequence[str] | None) -> tuple[str, ...]:
    """`default` first, then the known regions, then those that only the configs name."""
    named = {DEFAULT_REGION: None} | dict.fromkeys(known or ())
    for config in configs:
        named |= dict.fromkeys((*config.regions, *config.stable))
        if config.rollout is not None:
            named |= dict.fromkeys(config.rollout.regions or ())
        for version in config.versions.values():
            named |= dict.fromkeys(version.upstreams or ())
    return tuple(named)


def _versions(config: ModelConfig | None) -> tuple[str, ...]:
    return tuple(config.versions) if config is not None else ()


def _canaries(config: ModelConfig, regions: Sequence[str]) -> set[str]:
    by_hand = {
        version
        for region in regions
        for version, weight in config.weights_in(region).items()
        if weight and version != config.stable_in(region)
    }
    return by_hand | ({config.rollout.canary} if config.rollout is not None else set())


def _same_rollout(old: ModelConfig | None, new: ModelConfig | None) -> bool:
    return old is not None and new is not None and old.rollout is not None and old.rollout == new.rollout


def _same_need(old: Need, new: Need) -> bool:
    """Servers in common mean that the same thing answers; one more or less of them is no other model."""
    if isinstance(old, ForwardNeed) and isinstance(new, ForwardNeed):
        return old.upstream_model == new.upstream_model and bool({*old.urls} & {*new.urls})
    return isinstance(old, LoadNeed) and isinstance(new, LoadNeed) and old.uri == new.uri


def _digest(need: Need) -> str:
    return need.digest if isinstance(need, ForwardNeed) else need.uri


def _settings(old: ModelConfig, new: ModelConfig) -> tuple[str, ...]:
    """What else differs, by key: what concerns no weights but how requests are treated and judged."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return tuple(
        f"{key}: {_shown(before[key])}{_UNITS.get(key, '')} → {_shown(after[key])}{_UNITS.get(key, '')}"
        for key in after
        if key not in _TRAFFIC and before[key] != after[key]
    )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}: {_shown(each)}" for key, each in value.items() if each is not None)
        return "{" + inside + "}"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
