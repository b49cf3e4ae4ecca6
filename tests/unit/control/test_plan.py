"""Two repositories of configs → what changes for traffic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.config.problems import Problem
from router.control.plan import compare
from router.control.plan_types import Assumptions, Live, ModelPlan, TrafficPlan
from tests.support.configs import config_of, loaded, text_of

ROLLOUT = "rollout: {canary: v4, steps: [{weight: 1%, hold: 10m}, {weight: 50%}, {weight: 100%}]}\n"
NOTHING = Assumptions()


def plan(
    before: str, after: str, assumed: Assumptions = NOTHING, regions: tuple[str, ...] | None = None
) -> TrafficPlan:
    return compare(loaded(config_of(before), regions=regions), loaded(config_of(after), regions=regions), assumed)


def only(before: str, after: str, assumed: Assumptions = NOTHING, regions: tuple[str, ...] | None = None) -> ModelPlan:
    (model,) = plan(before, after, assumed, regions).models
    return model


def kinds(model: ModelPlan) -> set[str]:
    return {warned.kind for warned in model.warnings}


def test_the_same_configs_are_no_difference() -> None:
    found = plan(text_of(), "# a comment\n" + text_of())
    assert (found.differs, found.unchanged, found.models) == (False, 1, ())


def test_weights_are_told_by_region() -> None:
    model = only(text_of(), text_of(split="v3: 70, v4: 30"))
    (region,) = model.regions
    assert (region.region, region.before, region.after) == (
        "default", {"v3": 9000, "v4": 1000}, {"v3": 7000, "v4": 3000},
    )  # fmt: skip
    assert (region.movement.moved, region.movement.needless) == (2000, 0)
    assert (model.change, model.starts, model.stops, model.warnings) == ("changed", (), (), ())


def test_regions_that_stay_the_same_are_left_out() -> None:
    more = "  eu-west: {v3: 50, v4: 50}\n"
    before = text_of().replace("stickiness", more + "stickiness")
    model = only(before, before.replace("v3: 50, v4: 50", "v3: 40, v4: 60"), regions=("eu-west", "us-east"))
    assert [region.region for region in model.regions] == ["eu-west"]


def test_a_model_may_come_or_go() -> None:
    config = config_of(text_of())
    (added,) = compare(loaded(), loaded(config), NOTHING).models
    assert (added.change, added.starts, kinds(added)) == ("added", ("v3", "v4", "v5"), set())
    (removed,) = compare(loaded(config), loaded(config_of(text_of("other"), "other")), NOTHING).models[:1]
    assert (removed.change, removed.stops, kinds(removed)) == ("removed", ("v3", "v4", "v5"), {"removed"})


def test_a_broken_or_unreadable_file_removes_nothing() -> None:
    before = loaded(config_of(text_of()))
    broken = replace(loaded(), problems=(Problem("models/fraud.yaml", 1, 1, "", "wrong", "fraud"),))
    assert not compare(before, broken, NOTHING).differs
    assert not compare(before, replace(loaded(), complete=False), NOTHING).differs


def test_versions_start_and_stop() -> None:
    before, after = text_of().replace("  v5:", "  v2:"), text_of()
    model = only(before, after)
    assert (model.starts, model.stops, model.regions) == (("v5",), ("v2",), ())


def test_from_nothing_to_everything_is_warned_of() -> None:
    before = text_of(split="v3: 100")
    assert kinds(only(before, text_of(split="v5: 100", stable="v5"))) == {"jump"}
    assert kinds(only(text_of(), text_of(split="v4: 100", stable="v4"))) == set()


def test_another_model_under_the_same_name_is_a_jump() -> None:
    before = text_of(split="v3: 100")
    model = only(before, before.replace("[http://127.0.0.1:5003]", "[http://127.0.0.1:6003]"))
    assert (model.redefined, kinds(model)) == (("v3",), {"jump"})
    assert model.regions[0].movement.moved == 10_000


def test_one_more_server_is_no_other_model_but_is_judged_anew() -> None:
    model = only(text_of(), text_of().replace("[http://127.0.0.1:5004]", "[http://127.0.0.1:5004, http://b:1]"))
    assert (model.redefined, model.regions) == ((), ())
    assert [note for note in model.notes if "v4 is judged anew" in note]


def test_a_region_that_nobody_knows_is_warned_of() -> None:
    after = text_of().replace("stickiness", "  eu-wset: {v3: 100}\nstickiness")
    model = only(text_of(), after, Assumptions(served=("eu-west", "us-east")))
    (warned,) = [warned for warned in model.warnings if warned.kind == "region"]
    assert "did you mean 'eu-west'" in warned.message
    assert "region" not in kinds(only(text_of(), after))
    assert "region" not in kinds(
        only(after, after.replace("v3: 90, v4: 10", "v3: 80, v4: 20"), Assumptions(served=("x",)))
    )


@pytest.mark.parametrize(
    ("key", "said"), [("", "is removed"), ("stickiness: {cookie: uid}\n", "header x-user → cookie uid")]
)
def test_another_sticky_key_is_warned_of(key: str, said: str) -> None:
    model = only(text_of(), text_of().replace("stickiness: {header: x-user}\n", key))
    (warned,) = model.warnings
    assert (warned.kind, said in warned.message, "18%" in warned.message) == ("stickiness", True, True)
    assert not model.regions[0].movement.exact


def test_a_key_that_comes_is_no_reason_to_warn() -> None:
    model = only(text_of().replace("stickiness: {header: x-user}\n", ""), text_of())
    assert kinds(model) == set()
    assert not [note for note in model.notes if "no sticky key" in note]


def test_the_order_of_versions_matters() -> None:
    before = text_of(split="v3: 80, v4: 10, v5: 10")
    lines = before.splitlines(keepends=True)
    swapped = "".join([*lines[:3], lines[4], lines[3], *lines[5:]])
    model = only(before, swapped)
    assert kinds(model) == {"flip"}
    assert model.regions[0].movement.needless == 2000


def test_power_is_told_for_each_canary_and_regression() -> None:
    model = only(text_of(split="v3: 100"), text_of(), Assumptions({"": 20.0}))
    assert [(power.version, power.weight, power.error_rate) for power in model.regions[0].power] == [
        ("v4", 1000, 0.02), ("v4", 1000, 0.05), ("v4", 1000, 0.2),
    ]  # fmt: skip
    assert all(power.seconds is not None for power in model.regions[0].power)
    assert kinds(model) == set()


def test_a_canary_that_nobody_would_catch_is_warned_of() -> None:
    before, after = text_of(split="v3: 100"), text_of(split="v3: 99.99, v4: 0.01%")
    assert kinds(only(before, after, Assumptions({"default": 1.0}))) == {"blind"}
    assert kinds(only(before, after, Assumptions({"elsewhere": 1.0}))) == set()
    weaker = "guards: {errors: {at_most: 20x stable}}\n"
    assert kinds(only(text_of(), text_of(more=weaker))) == {"blind"}


def test_a_rollout_is_told_with_its_steps() -> None:
    before = text_of(split="v3: 100")
    model = only(before, before + ROLLOUT)
    (region,) = model.regions
    assert (region.after, region.ladder, region.canary) == ({"v3": 9900, "v4": 100}, (100, 5000, 10_000), "v4")
    assert {power.weight for power in region.power} == {100, 5000, 10_000}
    assert kinds(model) == set()


def test_a_rollout_in_one_step_is_a_jump() -> None:
    before = text_of(split="v3: 100")
    assert "jump" in kinds(only(before, before + "rollout: {canary: v4, steps: [{weight: 100%}]}\n"))
    waits = "rollout: {canary: v4, steps: [{weight: 100%, approval: true}]}\n"
    assert "jump" in kinds(only(before, before + waits))


def test_a_rollout_that_stays_goes_on_and_one_that_changes_starts_anew() -> None:
    before = text_of(split="v3: 100") + ROLLOUT
    same = only(before, before.replace("model: fraud", "model: fraud\ntimeout: 2s"))
    assert same.regions == ()
    assert [note for note in same.notes if "goes on" in note]
    other = only(before, before.replace("10m", "20m"))
    assert other.regions[0].before == {"v4": 10_000}
    assert [note for note in other.notes if "v4 is judged anew" in note]


def test_the_end_of_a_rollout_moves_nobody() -> None:
    model = only(text_of(split="v3: 100") + ROLLOUT, text_of(split="v4: 100", stable="v4"))
    assert model.regions[0].movement.moved == 0
    assert kinds(model) == set()


def test_other_settings_are_told() -> None:
    model = only(text_of(), text_of(more="timeout: 2s\nidempotent: true\nfallback: stable\n"))
    assert {"timeout: 30s → 2s", "idempotent: False → True"} <= set(model.settings)
    assert model.regions == ()


def test_a_running_router_tells_rates_and_which_rollback_would_be_lifted() -> None:
    live = Live({("fraud", "default"): 20.0}, {("fraud", "v4"): "v4 failed 12 of 80 requests"})
    after = text_of().replace("http://127.0.0.1:5004", "http://127.0.0.1:6004")
    model = only(text_of(), after, Assumptions(live=live))
    assert [warned.message for warned in model.warnings if warned.kind == "lifted"] == [
        "the rollback of v4 would be lifted; it holds because v4 failed 12 of 80 requests"
    ]
    assert kinds(only(text_of(), text_of(split="v3: 80, v4: 20"), Assumptions(live=live))) == set()
    (region,) = model.regions
    assert all(power.seconds for power in region.power)
    given = only(text_of(), after, Assumptions({"": 2.0}, live=live)).regions[0].power[0]
    assert (given.seconds or 0) > (region.power[0].seconds or 0)
