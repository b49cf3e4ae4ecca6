"""The routing snapshot: all that the data plane knows.

Rules:
1. A snapshot is immutable and complete: what the data plane does follows from it and the request alone.
2. It is compiled from a config and from facts about readiness; compiling is pure and total.
3. Admission comes before weight: a canary that is not admitted has effective weight 0, its share is stable's.
4. A stable that is not ready answers nothing (its share gets 503); a canary's share never rises for that reason.
5. A newly named stable takes over only once it is ready; until then the stable before it goes on.
6. A rollout's weight takes the place of what the config declares, out of stable's share and never more than that.
7. A rolled-back version has effective weight 0 wherever it is a canary; who is stable, or stands in for it, stays so.
8. Nothing here can be part of a cycle, so the garbage collector need not look at it (`gc=False`): going through a
   thousand models would hold up requests for milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from router.core.split import Slots, lay_out

if TYPE_CHECKING:
    from router.config.schema import ModelConfig

DEFAULT_REGION = "default"

State = Literal["ready", "warming", "unready", "gated", "rolled_back"]
Network = Literal["tcp", "tls", "unix"]


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address that can be dialled.

    `address` is an IP address, or a path where `network` is `unix` (then `port` is 0). `authority` is sent as
    `Host`; `server_name` is what a TLS certificate must be for; `base_path` (no trailing slash) goes before the
    path of every request.
    """

    network: Network
    address: str
    port: int = 0
    authority: str = "localhost"
    server_name: str = ""
    base_path: str = ""
    healthy: bool = True


class Target(msgspec.Struct, frozen=True, gc=False):
    """One version as one region sees it. Weights in hundredths of a percent; `weight` is the effective one.

    A request older than `slow_after` seconds counts as slow; 0 where nobody has set a bound. `decided` counts the
    decisions about a canary that led to its weight.
    """

    version: str
    state: State
    declared: int
    weight: int
    endpoints: tuple[Endpoint, ...]
    digest: str = ""
    upstream_model: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    slow_after: float = 0.0
    decided: int = 0

    @property
    def admitted(self) -> bool:
        """Whether requests may be sent to it."""
        return self.state == "ready"


class RegionRoute(msgspec.Struct, frozen=True, gc=False):
    """One model in one region: `targets` in the order of the model's versions, `stable` an index into them."""

    region: str
    targets: tuple[Target, ...]
    stable: int
    slots: Slots


class ModelRoute(msgspec.Struct, frozen=True, gc=False):
    """One model as the data plane sees it. Durations in seconds, sizes in bytes."""

    model: str
    digest: str
    regions: dict[str, RegionRoute]
    timeout: float = 30.0
    attempt_timeout: float = 15.0
    idempotent: bool = False
    fallback: bool = False
    max_body: int = 10 * 1024 * 1024
    buffer: int = 1024 * 1024
    allow_override: bool = False
    sticky_header: str = ""
    sticky_cookie: str = ""


class RoutingSnapshot(msgspec.Struct, frozen=True):
    """Every model, by name. `sequence` rises with each snapshot that control makes."""

    sequence: int
    models: dict[str, ModelRoute]


class VersionFacts(msgspec.Struct, frozen=True, gc=False):
    """What control knows of one version in one region, beside its config."""

    state: State
    endpoints: tuple[Endpoint, ...] = ()
    digest: str = ""
    headers: tuple[tuple[str, str], ...] = ()


UNKNOWN = VersionFacts("warming")


def compile_model(
    config: ModelConfig,
    served_regions: tuple[str, ...],
    facts: Mapping[tuple[str, str], VersionFacts],
    stable_before: Mapping[str, Target],
    *,
    digest: str,
    weights: Mapping[tuple[str, str], int] = MappingProxyType({}),
    rolled_back: Collection[str] = (),
) -> ModelRoute:
    """One model's route from its config and from what is known of its versions.

    Args:
        config: the model's config, already validated.
        served_regions: the regions this router has a listener for.
        facts: by `(version, region)`; a missing entry means that nothing is known yet.
        stable_before: by region, the target that is stable there until now, where there is one. It need not be
            part of `config` any more.
        digest: of the config.
        weights: by `(version, region)`, in hundredths of a percent: what rollouts declare by now.
        rolled_back: the versions that a latch holds.
    """
    stickiness = config.stickiness
    return ModelRoute(
        model=config.model,
        digest=digest,
        regions={
            region: _compile_region(config, region, facts, stable_before.get(region), weights, rolled_back)
            for region in served_regions
        },
        timeout=config.timeout,
        attempt_timeout=config.attempt_timeout,
        idempotent=config.idempotent,
        fallback=config.fallback,
        max_body=config.max_body,
        buffer=config.buffer,
        allow_override=config.allow_override,
        sticky_header=(stickiness.header or "") if stickiness else "",
        sticky_cookie=(stickiness.cookie or "") if stickiness else "",
    )


def _compile_region(
    config: ModelConfig,
    region: str,
    facts: Mapping[tuple[str, str], VersionFacts],
    before: Target | None,
    by_rollout: Mapping[tuple[str, str], int],
    rolled_back: Collection[str],
) -> RegionRoute:
    weights = _declared(config, region, by_rollout)
    declared_stable = config.stable_in(region)
    if facts.get((declared_stable, region), UNKNOWN).state == "ready":
        before = None
    targets: list[Target] = []
    canaries: list[tuple[int, int]] = []
    for index, (name, version) in enumerate(config.versions.items()):
        known = facts.get((name, region), UNKNOWN)
        in_charge = name == declared_stable or (before is not None and _is(before, name, known.digest))
        state = "rolled_back" if name in rolled_back and not in_charge else known.state
        declared = weights.get(name, 0)
        weight = 0
        if name != declared_stable and name in weights:
            weight = declared if state == "ready" else 0
            canaries.append((index, weight))
        targets.append(
            Target(
                version=name,
                state=state,
                declared=declared,
                weight=weight,
                endpoints=known.endpoints,
                digest=known.digest,
                upstream_model=version.upstream_model or config.model,
                headers=known.headers,
            )
        )
    stable = list(config.versions).index(declared_stable)
    if before is not None:
        stable = _stand_in(targets, before)
        canaries = [(index, weight) for index, weight in canaries if index != stable]
    rest = 10_000 - sum(weight for _, weight in canaries)
    targets[stable] = msgspec.structs.replace(targets[stable], weight=rest)
    return RegionRoute(region, tuple(targets), stable, lay_out(stable, canaries))


def _declared(config: ModelConfig, region: str, by_rollout: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """The declared weights of `region`: the config's, and a rollout's where there is one, which stable makes room for.

    Who has none is not in it, but for a rollout's canary: so it has its place among the slots before its weight.
    """
    stable, rollout = config.stable_in(region), config.rollout
    weights = {name: weight for name, weight in config.weights_in(region).items() if weight}
    if rollout is not None and rollout.stage_of(region) is not None:
        weights[rollout.canary] = 0
    for name in config.versions:
        if (name, region) in by_rollout and name != stable:
            room = weights.get(stable, 0) + weights.get(name, 0)
            weights[name] = min(by_rollout[name, region], room)
            weights[stable] = room - weights[name]
    return weights


def _is(before: Target, version: str, digest: str) -> bool:
    return (before.version, before.digest) == (version, digest)


def _stand_in(targets: list[Target], before: Target) -> int:
    """The index of the stable before among the new targets; appends it where it is no longer one of them."""
    for index, target in enumerate(targets):
        if _is(before, target.version, target.digest):
            return index
    targets.append(msgspec.structs.replace(before, declared=0))
    return len(targets) - 1
