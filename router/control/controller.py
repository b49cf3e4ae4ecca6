"""The heart of control: configs and facts in, routes out.

Rules:
1. Decides synchronously and does nothing: every method returns a `Decision` that the caller acts on.
2. A model's change applies whole or not at all; a broken file changes nothing but what is said of it.
3. A newly named stable takes over only once it is ready; the one before goes on, with fresh endpoints, until then.
4. A route is handed out only where it differs from the one in force.
5. After a restart of control alone, what the snapshot in force said of a version holds until more is known of it.
6. Whoever has not passed the model's gates is held back before anything else is decided about it.
7. What a canary may have is for the steering to say: it hears of a config and of facts before a route is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from router.config.problems import Problem
from router.config.schema import ModelConfig
from router.control.gate_cases import Origin, origin_of
from router.control.gatekeeper import Gatekeeper
from router.control.needs import Fact, Need, needs_of
from router.control.reload import Change
from router.control.steering import Steering
from router.core.snapshot import ModelRoute, Target, VersionFacts, compile_model


@dataclass(frozen=True, slots=True)
class Saved:
    """A config that is now in force, to be kept as the model's last good one."""

    model: str
    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: publish `routes`, take `removed` out, keep `saved`."""

    routes: Mapping[str, ModelRoute] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    saved: tuple[Saved, ...] = ()


@dataclass(slots=True)
class Standing:
    """The stable in force in one region, and what it needs (None where that is not known after a restart)."""

    target: Target
    need: Need | None


@dataclass(slots=True)
class Model:
    """One model. `config` and `route` are None where there never was a good config."""

    name: str
    config: ModelConfig | None = None
    digest: str = ""
    problems: tuple[Problem, ...] = ()
    needs: dict[tuple[str, str], Need] = field(default_factory=dict)
    standing: dict[str, Standing] = field(default_factory=dict)
    route: ModelRoute | None = None
    indexed: set[Need] = field(default_factory=set)

    def all_needs(self) -> set[Need]:
        """What its config needs, and what a stable that stands in needs."""
        standing = {stable.need for stable in self.standing.values() if stable.need is not None}
        return {*self.needs.values(), *standing}


class Controller:
    """Every model's state. `fact` answers what is known of a need."""

    def __init__(
        self,
        regions: Sequence[str],
        fact: Callable[[Need], Fact],
        steering: Steering,
        gatekeeper: Gatekeeper | None = None,
    ) -> None:
        self.regions = tuple(regions)
        self._steering = steering
        self._gatekeeper = gatekeeper
        self.models: dict[str, Model] = {}
        self._fact = fact
        self._users: dict[Need, set[str]] = {}
        self._seeds: dict[Need, VersionFacts] = {}
        self._new: set[Need] = set()
        self._changed = False

    def remember(self, route: ModelRoute, config: ModelConfig) -> None:
        """Takes over what was in force before a restart of control: `route`, compiled from `config` (rule 5)."""
        needs = needs_of(config, self.regions)
        model = self.models.setdefault(route.model, Model(route.model))
        for region, there in route.regions.items():
            for target in there.targets:
                need = needs.get((target.version, region))
                if target.admitted and need is not None:
                    self._seeds[need] = VersionFacts(target.state, target.endpoints, target.digest, target.headers)
            if there.targets[there.stable].admitted:
                stable = there.targets[there.stable]
                model.standing[region] = Standing(stable, needs.get((stable.version, region)))

    def apply(self, changes: Iterable[Change]) -> Decision:
        """New configs, problems and removals."""
        removed: list[str] = []
        saved: list[Saved] = []
        touched: list[Model] = []
        for change in changes:
            if change.removed:
                removed += self._remove(change.model)
                continue
            model = self.models.setdefault(change.model, Model(change.model))
            model.problems = change.problems
            if change.config is None:
                continue
            model.config, model.digest = change.config, change.digest
            model.needs = needs_of(change.config, self.regions)
            touched.append(model)
            if not change.restored:
                saved.append(Saved(change.model, change.text, change.digest))
        return Decision(self._compile(touched), tuple(removed), tuple(saved))

    def refresh(self, needs: Iterable[Need]) -> Decision:
        """Facts about `needs` changed."""
        names = sorted({name for need in needs for name in self._users.get(need, ())})
        return Decision(self._compile([self.models[name] for name in names]))

    def steered(self, names: Iterable[str]) -> Decision:
        """What the canaries of the models `names` may have changed."""
        return Decision(self._compile([self.models[name] for name in sorted(names) if name in self.models]))

    def wanted(self) -> set[Need]:
        """Everything that some model needs now."""
        return set(self._users)

    def users(self, need: Need) -> set[str]:
        """The models that need `need`."""
        return self._users.get(need, set())

    def wants_changed(self) -> tuple[set[Need], bool]:
        """The needs that are new since the last call, and whether there is any change, such as a need less."""
        new, self._new = self._new, set()
        changed, self._changed = self._changed, False
        return new, changed

    def fact(self, need: Need) -> Fact:
        """What is known of `need`, or was before a restart of control."""
        known = self._fact(need)
        seed = self._seeds.get(need)
        if seed is None:
            return known
        if known.state == "ready":
            del self._seeds[need]
            return known
        return replace(known, state="ready", endpoints=seed.endpoints, digest=seed.digest, headers=seed.headers)

    def sockets_in_force(self) -> set[str]:
        """The Unix sockets that some route sends requests to."""
        return {
            endpoint.address
            for model in self.models.values()
            if model.route is not None
            for region in model.route.regions.values()
            for target in region.targets
            for endpoint in target.endpoints
            if endpoint.network == "unix"
        }

    def _remove(self, name: str) -> list[str]:
        model = self.models.pop(name, None)
        self._steering.forget(name)
        if self._gatekeeper is not None:
            self._gatekeeper.forget(name)
        if model is None:
            return [name]
        for need in model.indexed:
            self._forget_user(need, name)
        return [name]

    def _compile(self, models: Iterable[Model]) -> dict[str, ModelRoute]:
        routes: dict[str, ModelRoute] = {}
        for model in models:
            route = self._compile_one(model)
            if route is not None and route != model.route:
                routes[model.name] = model.route = route
        return routes

    def _compile_one(self, model: Model) -> ModelRoute | None:
        if model.config is None:
            return None
        before = {region: self._refreshed(stable) for region, stable in model.standing.items()}
        facts = self._let_in(model, model.config, before)
        self._steering.configure(model.config, facts)
        route = compile_model(
            model.config,
            self.regions,
            self._steering.admitted(model.config, facts, before),
            before,
            digest=model.digest,
            weights=self._steering.weights(model.name),
            rolled_back=self._steering.rolled_back(model.name),
        )
        route = self._steering.bounded(route)
        self._steering.compiled(route)
        for region, there in route.regions.items():
            stable = there.targets[there.stable]
            if stable.admitted:
                model.standing[region] = Standing(stable, self._need_of(model, region, stable))
        self._index(model)
        return route

    def _let_in(
        self, model: Model, config: ModelConfig, standing: Mapping[str, Target]
    ) -> dict[tuple[str, str], VersionFacts]:
        known = {key: self.fact(need) for key, need in model.needs.items()}
        if self._gatekeeper is None:
            return {key: fact.for_route() for key, fact in known.items()}
        stables = {region: (target, self._origin(model, config, region)) for region, target in standing.items()}
        return self._gatekeeper.judged(config, model.needs, known, stables)

    def _origin(self, model: Model, config: ModelConfig, region: str) -> Origin:
        """Where the lineage of the stable in force is."""
        stable = model.standing[region]
        if stable.need is None:
            return Origin()
        return origin_of(config, stable.target.version, stable.need, self.fact(stable.need))

    def _refreshed(self, stable: Standing) -> Target:
        if stable.need is None:
            return stable.target
        known = self.fact(stable.need)
        if known.state != "ready":
            return stable.target
        return msgspec.structs.replace(stable.target, endpoints=known.endpoints, headers=known.headers)

    def _need_of(self, model: Model, region: str, stable: Target) -> Need | None:
        need = model.needs.get((stable.version, region))
        if need is not None and self.fact(need).digest == stable.digest:
            return need
        before = model.standing.get(region)
        return before.need if before is not None else None

    def _index(self, model: Model) -> None:
        needs = model.all_needs()
        for need in needs - model.indexed:
            if need not in self._users:
                self._users[need] = set()
                self._new.add(need)
                self._changed = True
            self._users[need].add(model.name)
        for need in model.indexed - needs:
            self._forget_user(need, model.name)
        model.indexed = needs

    def _forget_user(self, need: Need, name: str) -> None:
        users = self._users.get(need)
        if users is None:
            return
        users.discard(name)
        if not users:
            del self._users[need]
            self._seeds.pop(need, None)
            self._new.discard(need)
            self._changed = True
