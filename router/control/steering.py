"""Outcomes are observed, assessed into a verdict, and decided into new weights: all canaries of all models.

Rules:
1. Decides synchronously and does nothing: what comes of it waits in `steps` for whoever writes it and puts it in force.
2. Before the store was read no canary has weight: a latch may be in it.
3. A batch with bad outcomes is judged at once, and what came before them with it; everything else with the next tick,
   or two seconds later where many models have traffic: good outcomes are summed up meanwhile.
4. A canary that leaves the config keeps its state and its evidence in the store, and goes on from there if it is back.
5. A rollback that workers hold is one, also where the store knows nothing of it: it was in force. One that the store
   knows more of, since later decisions are in it, is past.
6. A latch is for what the canary is: under another name it is rolled back still.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from router.clock import Clock
from router.config.schema import Guards, ModelConfig, PromoteWhen
from router.control.bounds import Bounds
from router.control.canary import Canary, Identity, KeptEvidence, Step, Terms
from router.control.recorder import Revisions
from router.core.guards import GuardLimits
from router.core.outcome import Arm, ArmBatch, BadEvent, OutcomeBatch
from router.core.plan import Plan, latch_digest, plan_of
from router.core.rollout_state import Command, Refused, decode
from router.core.snapshot import ModelRoute, Target, VersionFacts
from router.store.base import Key, Versioned

log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
FEW = 100
"""Of so many models at once good outcomes are taken in with every tick; with more of them, not before QUIET_SECONDS."""

Armed = TypeVar("Armed", ArmBatch, BadEvent)

Facts = Mapping[tuple[str, str], VersionFacts]
"""By version and region."""


class _Waiting:
    """A model's outcomes since `since`, none of them bad."""

    __slots__ = ("arms", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.arms: list[ArmBatch] = []


class Steering:
    """The canaries of every model that this router serves in `regions`."""

    def __init__(self, regions: Sequence[str], clock: Clock) -> None:
        self._regions = tuple(regions)
        self._clock = clock
        self._kept: dict[Key, tuple[Versioned | None, Versioned | None]] = {}
        self._canaries: dict[Key, Canary] = {}
        self._models: dict[str, dict[str, Canary]] = {}
        self._quantiles: dict[str, tuple[float, float]] = {}
        self._seen: set[str] = set()
        self._held_back: dict[tuple[str, str, str], int] = {}
        self._waiting: dict[str, _Waiting] = {}
        self.bounds = Bounds()
        self.recalled = False
        self.steps: list[Step] = []

    def recall(self, rollouts: Mapping[Key, Versioned], evidences: Mapping[Key, Versioned]) -> None:
        """Takes over what the store has (rule 2)."""
        for key in {*rollouts, *evidences}:
            self._kept[key] = (rollouts.get(key), evidences.get(key))
        self.recalled = True

    def was_held_back(self, route: ModelRoute) -> None:
        """`route` was in force before control started: its rolled-back canaries still are (rule 5)."""
        for region in route.regions.values():
            for target in region.targets:
                if target.state == "rolled_back":
                    self._held_back[route.model, target.version, target.digest] = target.decided

    def canaries(self, model: str) -> Mapping[str, Canary]:
        """The canaries of `model` by version, in the config's order."""
        return self._models.get(model, {})

    def all(self) -> Iterator[Canary]:
        """Every canary that a config names."""
        for canaries in self._models.values():
            yield from canaries.values()

    def configure(self, config: ModelConfig, facts: Facts) -> None:
        """Takes in `config` and what is known of its versions; call it before the model's route is compiled."""
        self._seen.add(config.model)
        if not self.recalled:
            return
        plans = self._plans(config, facts)
        for canary in self.canaries(config.model).values():
            if canary.version not in plans:
                canary.plan = None
        self._models[config.model] = {version: self._canary(config.model, version) for version in plans}
        self._quantiles[config.model] = (config.guards.latency_quantile, config.guards.latency_at_most)
        for version, plan in plans.items():
            self._follow(self._models[config.model][version], plan, config, facts)

    def _follow(self, canary: Canary, plan: Plan | None, config: ModelConfig, facts: Facts) -> None:
        canary.follow(plan, self._identity(config, canary.version, facts, canary.identity.stable), terms_of(config))
        self._begin(canary)
        self._hold_back(canary)

    def _begin(self, canary: Canary) -> None:
        if canary.plan is not None and not canary.settled:
            self._put(canary.begin(self._latched_as(canary, canary.plan.digest)))

    def _latched_as(self, canary: Canary, digest: str) -> str:
        """The other version as which the canary of `digest` is rolled back; "" where there is none (rule 6)."""
        kept = {key: _recalled(*key, *kept) for key, kept in self._kept.items() if key[0] == canary.model}
        for other in {**kept, **self._canaries}.values():
            state = other.state if (other.model, other.version) != (canary.model, canary.version) else None
            if state is not None and state.rolled_back and state.digest == digest and other.model == canary.model:
                return other.version
        return ""

    def _plans(self, config: ModelConfig, facts: Facts) -> dict[str, Plan | None]:
        """The plan of each canary in the config; None where it is not known yet what the canary is."""
        plans: dict[str, Plan | None] = {}
        for version in config.versions:
            rollout = config.rollout if config.rollout and config.rollout.canary == version else None
            if rollout is None and not self._has_weight(config, version):
                continue
            resolved = [known.digest for (name, _), known in facts.items() if name == version]
            known = bool(resolved) and all(resolved)
            plans[version] = (
                plan_of(config, version, self._regions, digest=latch_digest(resolved, rollout)) if known else None
            )
        return plans

    def _has_weight(self, config: ModelConfig, version: str) -> bool:
        return any(
            config.weights_in(region).get(version) and config.stable_in(region) != version for region in self._regions
        )

    def _identity(self, config: ModelConfig, version: str, facts: Facts, before: Mapping[str, str]) -> Identity:
        """What the canary is by region, and the stable that the config names; `compiled` tells what is in force."""
        mine = {region: known.digest for (name, region), known in facts.items() if name == version}
        named = {
            region: facts[config.stable_in(region), region].digest
            for region in self._regions
            if region not in before and (config.stable_in(region), region) in facts
        }
        return Identity(mine, {**before, **named})

    def _canary(self, model: str, version: str) -> Canary:
        key = (model, version)
        canary = self._canaries.get(key)
        if canary is None:
            canary = self._canaries[key] = _recalled(model, version, *self._kept.pop(key, (None, None)))
        return canary

    def _hold_back(self, canary: Canary) -> None:
        """Rule 5."""
        if not canary.settled:
            return
        decided = max(
            (
                self._held_back.pop((canary.model, canary.version, digest), 0)
                for digest in set(canary.identity.canary.values())
            ),
            default=0,
        )
        if canary.state is not None and decided > canary.state.revision:
            reason = "it was rolled back before control started, and the store did not know yet"
            step = canary.command(Command("rollback", reason), "router")
            self._put(step if isinstance(step, Step) else None)

    def admitted(self, config: ModelConfig, facts: Facts, standing: Mapping[str, Target]) -> Facts:
        """`facts`, with every canary that has no state yet as gated: it may have no weight (rule 2).

        `standing` are the stables in force by region, which stand in where the config's own is not ready.
        """
        gated = dict(facts)
        for (version, region), known in facts.items():
            canary = self.canaries(config.model).get(version)
            stands = standing.get(region)
            in_charge = version == config.stable_in(region) or (
                stands is not None and (stands.version, stands.digest) == (version, known.digest)
            )
            unknown = not canary.settled if canary is not None else not self.recalled
            if known.state == "ready" and not in_charge and unknown:
                gated[version, region] = msgspec.structs.replace(known, state="gated")
        return gated

    def weights(self, model: str) -> dict[tuple[str, str], int]:
        """What the rollouts of `model` declare, by version and region, in hundredths of a percent."""
        return {
            (canary.version, region): canary.declared(region)
            for canary in self.canaries(model).values()
            for stage in (canary.plan.stages if canary.plan is not None else ())
            for region in stage
        }

    def expected(self, model: str, region: str) -> set[str]:
        """The versions to which a rollout gives weight in `region`, or may: where they stand is not known yet."""
        return {
            canary.version
            for canary in self.canaries(model).values()
            if canary.plan is None or canary.plan.automatic
            if not canary.settled or canary.weight(region)
        }

    def rolled_back(self, model: str) -> list[str]:
        """The versions of `model` that a latch holds."""
        return [canary.version for canary in self.canaries(model).values() if canary.rolled_back]

    def bounded(self, route: ModelRoute) -> ModelRoute:
        """`route` with the age from which a request counts as slow, and what was decided, where it has canaries."""
        if not self.canaries(route.model):
            return route
        _, at_most = self._quantiles[route.model]
        regions = {}
        for name, region in route.regions.items():
            bound = self.bounds.bound((route.model, name))
            targets = tuple(
                msgspec.structs.replace(
                    target,
                    slow_after=bound * (1.0 if index == region.stable else at_most),
                    decided=self._decided(route.model, target.version),
                )
                for index, target in enumerate(region.targets)
            )
            regions[name] = msgspec.structs.replace(region, targets=targets)
        return msgspec.structs.replace(route, regions=regions)

    def _decided(self, model: str, version: str) -> int:
        canary = self.canaries(model).get(version)
        return canary.state.revision if canary is not None and canary.state is not None and canary.settled else 0

    def compiled(self, route: ModelRoute) -> None:
        """`route` is what goes into force: tells which stable each canary is beside, and whether it has its weight."""
        for canary in self.canaries(route.model).values():
            targets = {
                region: next((target for target in there.targets if target.version == canary.version), None)
                for region, there in route.regions.items()
            }
            stage = canary.stage
            canary.in_force = canary.settled and all(
                target is not None and target.admitted and target.weight == canary.weight(region)
                for region, target in targets.items()
                if region in stage
            )
            canary.beside({region: there.targets[there.stable].digest for region, there in route.regions.items()})

    def observe(self, batch: OutcomeBatch) -> set[str]:
        """Takes a worker's batch; returns the models whose slow bounds changed (rule 3)."""
        now = self._clock.monotonic()
        for arm in batch.arms:
            waiting = self._waiting.get(arm.arm.model)
            if waiting is None:
                waiting = self._waiting[arm.arm.model] = _Waiting(now)
            waiting.arms.append(arm)
        bad = _by_model(batch.bad)
        for model, events in bad.items():
            self._take_in(model, events, now)
            for canary in self.canaries(model).values():
                self._put(canary.judge(now))
        return self._settle_bounds(bad, now)

    def _take_in(self, model: str, bad: Sequence[BadEvent], now: float) -> None:
        """What waited of `model`, and then its `bad` events."""
        waited = self._waiting.pop(model, None)
        arms = waited.arms if waited is not None else []
        self.bounds.learn(arms, now)
        canaries = self.canaries(model)
        if canaries:
            arms = merged(arms)
        for canary in canaries.values():
            canary.observe(arms, bad, now)

    def _settle_bounds(self, models: Iterable[str], now: float) -> set[str]:
        changed = set()
        for model in models:
            if self.canaries(model):
                quantile, _ = self._quantiles[model]
                for region in self._regions:
                    if self.bounds.settle((model, region), quantile, now):
                        changed.add(model)
        return changed

    def tick(self) -> set[str]:
        """Some time has passed; returns the models whose slow bounds changed (rule 3)."""
        now = self._clock.monotonic()
        few = len(self._waiting) <= FEW
        due = [model for model, waited in self._waiting.items() if few or now - waited.since >= QUIET_SECONDS]
        for model in due:
            self._take_in(model, (), now)
        for canary in self.all():
            self._begin(canary)
            self._put(canary.judge(now))
        return self._settle_bounds(due, now)

    def command(self, model: str, version: str, command: Command, actor: str) -> Step | Refused:
        """An operator's wish; a step is the caller's to put in force, and not among `steps`.

        Raises:
            LookupError: there is no such canary, or it has no state yet.
        """
        self._take_in(model, (), self._clock.monotonic())
        return self.canaries(model)[version].command(command, actor)

    def waiting(self) -> list[str]:
        """Every model, for when the store could be read at last."""
        return list(self._seen)

    def alarms(self) -> list[Canary]:
        """The canaries whose share is not the declared one, each once."""
        found = [canary for canary in self.all() if canary.split_is_wrong and not canary.alarmed]
        for canary in found:
            canary.alarmed = True
        return found

    def take(self) -> list[Step]:
        """The steps since the last call."""
        steps, self.steps = self.steps, []
        return steps

    def forget(self, model: str) -> None:
        """`model` has no config any more (rule 4)."""
        self._seen.discard(model)
        self._waiting.pop(model, None)
        for canary in self._models.pop(model, {}).values():
            canary.plan = None

    def _put(self, step: Step | None) -> None:
        if step is not None:
            self.steps.append(step)


def merged(batches: Sequence[ArmBatch]) -> list[ArmBatch]:
    """`batches` with one for each arm: their counts together, and nothing else."""
    counts: dict[Arm, dict[tuple[int, str, bool], int]] = {}
    for batch in batches:
        found = counts.setdefault(batch.arm, {})
        for code, result, observed, n in batch.counts:
            found[code, result, observed] = found.get((code, result, observed), 0) + n
    return [ArmBatch(arm, tuple((*key, n) for key, n in found.items())) for arm, found in counts.items()]


def _by_model(items: Iterable[Armed]) -> dict[str, list[Armed]]:
    found: dict[str, list[Armed]] = {}
    for item in items:
        found.setdefault(item.arm.model, []).append(item)
    return found


def terms_of(config: ModelConfig) -> Terms:
    """What the canaries of `config` are judged by."""
    wanted = config.rollout.promote_when if config.rollout is not None else PromoteWhen()
    return Terms(
        limits_of(config.guards), config.stickiness is not None, wanted.no_worse_than_stable_by, wanted.confidence
    )


def limits_of(guards: Guards) -> GuardLimits:
    """What `guards` in a config allow."""
    return GuardLimits(
        false_alarm=guards.false_alarm,
        errors_at_most=guards.errors.at_most,
        errors_ignore_below=guards.errors.ignore_below,
        rejections_at_most=guards.rejections.at_most,
        rejections_ignore_below=guards.rejections.ignore_below,
        latency_quantile=guards.latency_quantile,
        latency_at_most=guards.latency_at_most,
        error_rate_max=guards.error_rate.max,
    )


def _recalled(model: str, version: str, rollout: Versioned | None, evidence: Versioned | None) -> Canary:
    """A canary as the store has it."""
    revisions = Revisions(rollout.revision if rollout else 0, evidence.revision if evidence else 0)
    canary = Canary(model, version, revisions)
    try:
        canary.state = decode(rollout.value) if rollout is not None else None
        canary.kept = msgspec.msgpack.decode(evidence.value, type=KeptEvidence) if evidence is not None else None
    except msgspec.MsgspecError as error:
        log.warning("model %s, %s: what the store has of it is of no use: %s", model, version, error)
    return canary
