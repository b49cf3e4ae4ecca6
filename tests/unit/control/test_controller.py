from __future__ import annotations

from dataclasses import replace

from router.config.problems import Problem
from router.config.schema import ModelConfig, Version
from router.control.controller import Controller
from router.control.needs import Fact, ForwardNeed, Need
from router.control.reload import Change
from router.core.snapshot import Endpoint, ModelRoute
from tests.unit.control.fakes import PromptSteering

PROBLEM = Problem("models/fraud.yaml", 3, 1, "regions", "weights sum to 90", "fraud")


def url(version: str) -> str:
    return f"http://{version}"


def config(weights: dict[str, int], stable: str = "v3", versions: tuple[str, ...] = ("v3", "v4")) -> ModelConfig:
    return ModelConfig(
        model="fraud",
        versions={version: Version(upstreams={"default": (url(version),)}) for version in versions},
        stable={"default": stable},
        regions={"default": weights},
    )


def change(made: ModelConfig, digest: str) -> Change:
    return Change("fraud", made, f"text of {digest}", digest)


def need(version: str) -> ForwardNeed:
    return ForwardNeed((url(version),), "fraud")


class Known:
    """What the controller asks for facts."""

    def __init__(self) -> None:
        self.facts: dict[Need, Fact] = {}

    def ready(self, *versions: str) -> list[Need]:
        for version in versions:
            endpoint = Endpoint("tcp", f"address of {version}", 80)
            self.facts[need(version)] = Fact("ready", endpoints=(endpoint,), digest=need(version).digest)
        return [need(version) for version in versions]

    def controller(self) -> Controller:
        return Controller(("default",), lambda wanted: self.facts.get(wanted, Fact()), PromptSteering(("default",)))


def effective(route: ModelRoute) -> dict[str, int]:
    return {target.version: target.weight for target in route.regions["default"].targets}


def stable(route: ModelRoute) -> str:
    there = route.regions["default"]
    return there.targets[there.stable].version


def test_a_config_becomes_a_route_and_is_saved() -> None:
    known = Known()
    known.ready("v3", "v4")
    decision = known.controller().apply([change(config({"v3": 9000, "v4": 1000}), "1")])
    assert effective(decision.routes["fraud"]) == {"v3": 9000, "v4": 1000}
    assert [(saved.model, saved.text, saved.digest) for saved in decision.saved] == [("fraud", "text of 1", "1")]


def test_the_same_config_again_is_not_published_again() -> None:
    known = Known()
    known.ready("v3", "v4")
    controller = known.controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    assert controller.apply([change(config({"v3": 10000}), "1")]).routes == {}


def test_a_canary_gets_its_weight_once_it_is_ready() -> None:
    known = Known()
    known.ready("v3")
    controller = known.controller()
    first = controller.apply([change(config({"v3": 9000, "v4": 1000}), "1")])
    assert effective(first.routes["fraud"]) == {"v3": 10000, "v4": 0}
    second = controller.refresh(known.ready("v4"))
    assert effective(second.routes["fraud"]) == {"v3": 9000, "v4": 1000}
    assert controller.refresh(known.ready("v4")).routes == {}


def test_a_broken_file_changes_what_is_said_and_nothing_else() -> None:
    known = Known()
    known.ready("v3", "v4")
    controller = known.controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    decision = controller.apply([Change("fraud", problems=(PROBLEM,))])
    assert (decision.routes, decision.removed, decision.saved) == ({}, (), ())
    said = [controller.models["fraud"].problems]
    assert controller.models["fraud"].digest == "1"
    controller.apply([change(config({"v3": 10000}), "1")])
    said.append(controller.models["fraud"].problems)
    assert said == [(PROBLEM,), ()]


def test_a_model_that_never_had_a_good_config_is_known_and_not_routed() -> None:
    controller = Known().controller()
    decision = controller.apply([Change("fraud", problems=(PROBLEM,))])
    assert decision.routes == {}
    assert controller.models["fraud"].route is None


def test_a_restored_config_is_in_force_and_not_saved_again() -> None:
    known = Known()
    known.ready("v3")
    made = replace(change(config({"v3": 10000}), "1"), restored=True, problems=(PROBLEM,))
    decision = known.controller().apply([made])
    assert set(decision.routes) == {"fraud"}
    assert decision.saved == ()


def test_a_newly_named_stable_takes_over_once_ready() -> None:
    known = Known()
    known.ready("v3")
    controller = known.controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    moved = controller.apply([change(config({"v4": 10000}, stable="v4", versions=("v4",)), "2")])
    assert stable(moved.routes["fraud"]) == "v3"
    assert effective(moved.routes["fraud"]) == {"v4": 0, "v3": 10000}
    assert controller.wanted() == {need("v3"), need("v4")}
    over = controller.refresh(known.ready("v4"))
    assert stable(over.routes["fraud"]) == "v4"
    assert effective(over.routes["fraud"]) == {"v4": 10000}
    assert controller.wanted() == {need("v4")}


def test_a_stable_that_stands_in_follows_its_addresses() -> None:
    known = Known()
    known.ready("v3")
    controller = known.controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    controller.apply([change(config({"v4": 10000}, stable="v4", versions=("v4",)), "2")])
    moved = Endpoint("tcp", "new address", 80)
    known.facts[need("v3")] = replace(known.facts[need("v3")], endpoints=(moved,))
    decision = controller.refresh([need("v3")])
    there = decision.routes["fraud"].regions["default"]
    assert there.targets[there.stable].endpoints == (moved,)


def test_a_removed_model_leaves_and_needs_nothing_more() -> None:
    known = Known()
    controller = known.controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    controller.wants_changed()
    decision = controller.apply([Change("fraud", removed=True)])
    assert decision.removed == ("fraud",)
    assert controller.wanted() == set()
    assert controller.wants_changed() == (set(), True)
    assert controller.refresh([need("v3")]).routes == {}


def test_wants_tell_what_is_new() -> None:
    controller = Known().controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    assert controller.wants_changed() == ({need("v3"), need("v4")}, True)
    controller.apply([change(config({"v3": 9000, "v4": 1000}), "2")])
    assert controller.wants_changed() == (set(), False)


def route_of(known: Known, made: ModelConfig) -> ModelRoute:
    return known.controller().apply([change(made, "1")]).routes["fraud"]


def test_after_a_restart_what_was_in_force_goes_on_before_anything_is_known() -> None:
    before = Known()
    before.ready("v3", "v4")
    made = config({"v3": 9000, "v4": 1000})
    held = route_of(before, made)
    now = Known()
    controller = now.controller()
    controller.remember(held, made)
    assert controller.apply([change(made, "1")]).routes["fraud"] == held
    now.ready("v3", "v4")
    assert controller.refresh([need("v3"), need("v4")]).routes == {}
    assert controller.fact(need("v3")).state == "ready"


def test_after_a_restart_with_another_config_versions_that_stayed_the_same_go_on() -> None:
    before = Known()
    before.ready("v3")
    made = config({"v3": 10000})
    controller = Known().controller()
    controller.remember(route_of(before, made), made)
    other = config({"v4": 10000}, stable="v4", versions=("v4",))
    decision = controller.apply([change(other, "2")])
    assert stable(decision.routes["fraud"]) == "v3"
    assert need("v3") in controller.wanted()


def test_sockets_in_force_are_those_of_routes() -> None:
    known = Known()
    known.facts[need("v3")] = Fact("ready", endpoints=(Endpoint("unix", "/run/v3.sock"),), digest="d")
    controller = known.controller()
    controller.apply([change(config({"v3": 10000}), "1")])
    assert controller.sockets_in_force() == {"/run/v3.sock"}
