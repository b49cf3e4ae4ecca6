"""From a config and facts about readiness to what the data plane does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import pytest

from router.config.schema import ModelConfig, Stickiness, Version
from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, State, Target, VersionFacts, compile_model
from router.core.split import Slots

ENDPOINT = Endpoint("tcp", "127.0.0.1", 8080)


def config(weights: Mapping[str, int], stable: str = "v3", **options: Any) -> ModelConfig:
    versions = {name: Version(model_uri=f"models:/fraud/{name[1:]}") for name in ("v3", "v4", "v5")}
    facts = {"model": "fraud", "versions": versions, "stable": {"default": stable}, "regions": {"default": weights}}
    return ModelConfig.model_validate({**facts, **options})


def states(**of_versions: State) -> dict[tuple[str, str], VersionFacts]:
    return {
        (name, "default"): VersionFacts(state, (ENDPOINT,), f"digest-{name}") for name, state in of_versions.items()
    }


def compiled(
    weights: Mapping[str, int],
    facts: Mapping[tuple[str, str], VersionFacts],
    before: Target | None = None,
    stable: str = "v3",
) -> RegionRoute:
    stable_before = {"default": before} if before else {}
    return compile_model(config(weights, stable), ("default",), facts, stable_before, digest="d").regions["default"]


def weights_of(route: RegionRoute) -> dict[str, int]:
    return {target.version: target.weight for target in route.targets if target.weight}


def test_ready_versions_get_what_they_declare() -> None:
    route = compiled({"v3": 8500, "v4": 1000, "v5": 500}, states(v3="ready", v4="ready", v5="ready"))

    assert weights_of(route) == {"v3": 8500, "v4": 1000, "v5": 500}
    assert [target.declared for target in route.targets] == [8500, 1000, 500]
    assert route.stable == 0
    assert route.slots == Slots((1000, 9500, 10_000), (1, 0, 2))
    assert route.targets[1].endpoints == (ENDPOINT,)
    assert route.targets[1].digest == "digest-v4"


@pytest.mark.parametrize("state", ["warming", "unready", "gated", "rolled_back"])
def test_a_canary_gets_no_weight_before_it_is_admitted(state: State) -> None:
    route = compiled({"v3": 8500, "v4": 1000, "v5": 500}, states(v3="ready", v4=state, v5="ready"))

    assert weights_of(route) == {"v3": 9500, "v5": 500}
    assert route.targets[1].declared == 1000
    assert not route.targets[1].admitted
    assert route.slots == Slots((9500, 10_000), (0, 2)), "the other canary keeps its place"


def test_nothing_known_means_warming() -> None:
    route = compiled({"v3": 9000, "v4": 1000}, {})

    assert [target.state for target in route.targets] == ["warming"] * 3
    assert weights_of(route) == {"v3": 10_000}


def test_a_stable_that_is_not_ready_keeps_its_share_and_the_canary_gets_no_more() -> None:
    route = compiled({"v3": 9000, "v4": 1000}, states(v3="unready", v4="ready"))

    assert weights_of(route) == {"v3": 9000, "v4": 1000}
    assert not route.targets[route.stable].admitted


OLD = Target("v3", "ready", 10_000, 10_000, (ENDPOINT,), "digest-v3", "fraud", (("authorization", "s"),))


def test_a_new_stable_takes_over_only_once_it_is_ready() -> None:
    facts = states(v3="ready", v4="warming")

    waiting = compiled({"v4": 10_000}, facts, OLD, stable="v4")
    after = compiled({"v4": 10_000}, states(v3="ready", v4="ready"), OLD, stable="v4")

    assert weights_of(waiting) == {"v3": 10_000}
    assert waiting.targets[waiting.stable].version == "v3"
    assert waiting.slots == Slots((10_000,), (0,))
    assert weights_of(after) == {"v4": 10_000}


def test_the_stand_in_is_not_a_canary_any_more() -> None:
    """v4 is to be stable with v3 as its canary; until v4 is ready v3 has everything, and v5 what it declares."""
    facts = states(v3="ready", v4="warming", v5="ready")

    route = compiled({"v4": 7000, "v3": 2000, "v5": 1000}, facts, OLD, stable="v4")

    assert weights_of(route) == {"v3": 9000, "v5": 1000}
    assert route.targets[route.stable].version == "v3"


def test_the_stand_in_may_be_gone_from_the_config() -> None:
    before = msgspec.structs.replace(OLD, version="v2", digest="digest-v2")

    route = compiled({"v4": 9000, "v5": 1000}, states(v4="warming", v5="ready"), before, stable="v4")

    assert weights_of(route) == {"v2": 9000, "v5": 1000}
    assert route.stable == 3
    assert route.targets[3] == msgspec.structs.replace(before, declared=0, weight=9000)


def test_the_same_name_with_another_digest_is_another_version() -> None:
    before = msgspec.structs.replace(OLD, digest="what v3 was before")

    route = compiled({"v3": 10_000}, states(v3="warming"), before)

    assert route.stable == 3
    assert route.targets[3].digest == "what v3 was before"
    assert route.targets[3].weight == 10_000
    assert route.targets[0].weight == 0


def test_stable_waits_for_nobody_without_one_before() -> None:
    route = compiled({"v3": 10_000}, states(v3="warming"))

    assert route.stable == 0
    assert weights_of(route) == {"v3": 10_000}


def steered(
    weights: Mapping[str, int],
    by_rollout: Mapping[tuple[str, str], int],
    rolled_back: Collection[str] = (),
    facts: Mapping[tuple[str, str], VersionFacts] | None = None,
    before: Target | None = None,
    stable: str = "v3",
) -> RegionRoute:
    known = states(v3="ready", v4="ready", v5="ready") if facts is None else facts
    route = compile_model(
        config(weights, stable),
        ("default",),
        known,
        {"default": before} if before else {},
        digest="d",
        weights=by_rollout,
        rolled_back=rolled_back,
    )
    return route.regions["default"]


def test_a_rollout_declares_weight_out_of_stables_share() -> None:
    route = steered({"v3": 8000, "v5": 2000}, {("v4", "default"): 1000, ("v4", "elsewhere"): 5000})

    assert [(target.version, target.declared, target.weight) for target in route.targets] == [
        ("v3", 7000, 7000), ("v4", 1000, 1000), ("v5", 2000, 2000)
    ]  # fmt: skip


def test_a_rollout_never_takes_more_than_stable_has() -> None:
    route = steered({"v3": 8000, "v5": 2000}, {("v4", "default"): 10_000})

    assert weights_of(route) == {"v4": 8000, "v5": 2000}


def test_a_rollout_replaces_what_the_config_says_and_leaves_stable_alone() -> None:
    route = steered({"v3": 9000, "v4": 1000}, {("v4", "default"): 500, ("v3", "default"): 1})

    assert weights_of(route) == {"v3": 9500, "v4": 500}
    assert [target.declared for target in route.targets] == [9500, 500, 0]


def test_a_rollout_has_its_place_before_its_weight() -> None:
    """v4 comes first; had it no place while nothing is known of it, its start would move all of v5's users."""
    rollout = {"canary": "v4", "steps": [{"weight": 100}]}
    regions = {"default": {"v3": 9000, "v5": 1000}, "eu": {"v3": 9000, "v5": 1000}}
    facts = {(version, region): VersionFacts("ready") for version in ("v3", "v4", "v5") for region in ("eu", "default")}

    def slots(by_rollout: Mapping[tuple[str, str], int], *covered: str) -> list[Slots]:
        steered = config({}, regions=regions, rollout={**rollout, "regions": covered})
        route = compile_model(steered, ("default", "eu"), facts, {}, digest="d", weights=by_rollout)
        return [region.slots for region in route.regions.values()]

    after, elsewhere = Slots((9000, 10_000), (0, 2)), Slots((1000, 10_000), (2, 0))
    assert slots({}, "us", "default") == [after, after]
    assert slots({}, "eu") == [elsewhere, after]
    assert slots({("v4", "eu"): 100}, "eu") == [elsewhere, Slots((100, 9000, 10_000), (1, 0, 2))]


def test_a_rolled_back_canary_has_no_weight_and_its_share_is_stables() -> None:
    route = steered({"v3": 8500, "v4": 1000, "v5": 500}, {}, ["v4"])

    assert weights_of(route) == {"v3": 9500, "v5": 500}
    assert (route.targets[1].state, route.targets[1].declared, route.targets[1].admitted) == (
        "rolled_back",
        1000,
        False,
    )
    assert route.slots == Slots((9500, 10_000), (0, 2))


def test_a_rolled_back_rollout_keeps_its_declared_weight_only() -> None:
    route = steered({"v3": 10_000}, {("v4", "default"): 2500}, {"v4"}, states(v3="ready", v4="warming"))

    assert weights_of(route) == {"v3": 10_000}
    assert [target.declared for target in route.targets] == [7500, 2500, 0]
    assert route.targets[1].state == "rolled_back"


def test_who_is_stable_is_not_taken_out_of_service() -> None:
    route = steered({"v3": 10_000}, {}, ["v3"])
    stand_in = steered({"v4": 8000, "v3": 2000}, {}, ["v3"], states(v3="ready", v4="warming"), OLD, "v4")

    assert (route.targets[0].state, weights_of(route)) == ("ready", {"v3": 10_000})
    assert (stand_in.targets[0].state, weights_of(stand_in)) == ("ready", {"v3": 10_000})


def test_regions_are_compiled_by_themselves() -> None:
    regions = {"default": {"v3": 10_000}, "eu-west": {"v3": 9000, "v4": 1000}}
    facts = {("v3", region): VersionFacts("ready") for region in ("eu-west", "us-east")}
    facts["v4", "eu-west"] = VersionFacts("ready")

    route = compile_model(config({}, regions=regions), ("eu-west", "us-east"), facts, {}, digest="d")

    assert set(route.regions) == {"eu-west", "us-east"}
    assert weights_of(route.regions["eu-west"]) == {"v3": 9000, "v4": 1000}
    assert weights_of(route.regions["us-east"]) == {"v3": 10_000}


def test_a_model_keeps_its_options() -> None:
    options: dict[str, Any] = {
        "timeout": 2.0,
        "attempt_timeout": 1.0,
        "idempotent": True,
        "fallback": True,
        "max_body": 5,
        "buffer": 4,
        "allow_override": True,
    }

    route = compile_model(
        config({"v3": 10_000}, stickiness=Stickiness(header="x-key"), **options), (), {}, {}, digest="d"
    )

    assert route == ModelRoute("fraud", "d", {}, sticky_header="x-key", **options)


@pytest.mark.parametrize(
    ("stickiness", "names"),
    [(None, ("", "")), (Stickiness(header="x-key"), ("x-key", "")), (Stickiness(cookie="sid"), ("", "sid"))],
)
def test_stickiness_is_a_header_or_a_cookie_or_nothing(stickiness: Stickiness | None, names: tuple[str, str]) -> None:
    route = compile_model(config({"v3": 10_000}, stickiness=stickiness), (), {}, {}, digest="d")

    assert (route.sticky_header, route.sticky_cookie) == names


def test_the_upstreams_name_of_the_model_is_the_models_unless_it_says_otherwise() -> None:
    versions = {
        "v3": Version(model_uri="models:/fraud/3"),
        "v4": Version(upstreams={"default": ("http://x",)}, upstream_model="y"),
    }

    route = compile_model(config({"v3": 10_000}, versions=versions), ("default",), {}, {}, digest="d")

    assert [target.upstream_model for target in route.regions["default"].targets] == ["fraud", "y"]
