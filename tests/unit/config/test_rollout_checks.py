"""What a rollout means together with the rest of its file."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from router.config.load import load_model

FILE = """\
model: m
versions:
  v3: {model_uri: /a}
  v4: {model_uri: /b}
  v5: {upstreams: {eu: [http://a]}}
stable: v3
regions:
  default: {v3: 100}
  eu: {v3: 80, v5: 20}
rollout:
  canary: v4
  regions: [eu, us]
  steps:
    - {weight: 10%, hold: 1h}
    - {weight: 50%, approval: true}
    - {weight: 80%}
"""


def told(old: str = "", new: str = "", *, regions: Sequence[str] | None = ("eu", "us")) -> list[str]:
    """The problems of the file with one place changed, as `line:column: path: message`."""
    assert not old or FILE.count(old) == 1
    config, problems = load_model("m", FILE.replace(old, new).encode(), file="f", regions=regions)
    assert (config is None) == bool(problems)
    return [str(problem).removeprefix("f:") for problem in problems]


def test_a_good_rollout_is_read() -> None:
    assert told() == []
    assert told(regions=None) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("canary: v4", "canary: v6", "11:11: rollout.canary: no version 'v6' is defined under versions (there are"),
        ("canary: v4", "canary: v3", "11:11: rollout.canary: is stable already; a rollout is for another version"),
        ("  regions: [eu", "  region: [eu", "12:3: rollout.region: unknown key (did you mean 'regions'?)"),
        (
            "stable: v3",
            "stable: {default: v3, eu: v4}",
            "11:11: rollout.canary: is stable in region 'eu'; the canary of a rollout is stable nowhere",
        ),
        (
            "{v3: 80, v5: 20}",
            "{v3: 80, v4: 20}",
            "9:16: regions.eu.v4: is what the rollout decides; leave it out here",
        ),
        ("{v3: 80, v5: 20}", "{v3: 100, v4: 0}", "9:17: regions.eu.v4: is what the rollout decides"),
        ("[eu, us]", "[eu, eu]", "12:17: rollout.regions[1]: this region is here twice"),
        ("[eu, us]", "[eu, uss]", "12:17: rollout.regions[1]: regions.yaml has no region 'uss' (did you mean 'us'?)"),
        ("[eu, us]", "[]", "12:12: rollout.regions: the list is empty; leave it out for all regions at once"),
        ("[eu, us]", "eu", "12:12: rollout.regions: must be a list, not text"),
        ("{weight: 50%", "{weight: 10%", "15:16: rollout.steps[1].weight: is not more than the step before has (10%)"),
        ("{weight: 80%", "{weight: 40%", "16:16: rollout.steps[2].weight: is not more than the step before has (50%)"),
        (
            "{weight: 80%",
            "{weight: 100%",
            "16:16: rollout.steps[2].weight: is more than stable has to give in region 'eu' (80%)",
        ),
        ("{weight: 80%", "{weight: 101%", "16:16: rollout.steps[2].weight: '101%' is more than 100%"),
        ("{weight: 10%", "{weight: 0", "14:16: rollout.steps[0].weight: must be more than 0%"),
        (
            "{weight: 10%",
            "{weight: 0.1",
            "rollout.steps[0].weight: a bare 0.1 is ambiguous: was '10%' or '0.1%' meant?",
        ),
        ("hold: 1h", "hold: 1001h", "14:27: rollout.steps[0].hold: is more than 1000h"),
        ("hold: 1h", "hold: 60", "14:27: rollout.steps[0].hold: '60' is not a duration: 60 of what?"),
        ("approval: true", "approval: yes", "15:31: rollout.steps[1].approval: must be true or false, not 'yes'"),
    ],
)
def test_each_mistake_is_told_at_its_place(old: str, new: str, expected: str) -> None:
    found = told(old, new)
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("promote_when: {no_worse_than_stable_by: 0pp}", "promote_when.no_worse_than_stable_by: must be more than 0pp"),
        ("promote_when: {confidence: 100%}", "rollout.promote_when.confidence: must be from 50% to 99.99%"),
        ("promote_when: {confidence: 0.95}", "a bare 0.95 is ambiguous: was '95%' or '0.95%' meant?"),
        ("promote_when: {min_requests: 0}", "'0' is not a whole number from 1"),
        ("promote_when: {min_request: 5}", "unknown key (did you mean 'min_requests'?)"),
        ("inconclusive_after: 0s", "rollout.inconclusive_after: must be more than 0 and at most 1000h"),
    ],
)
def test_what_promotes_has_its_ranges(line: str, expected: str) -> None:
    found = told("rollout:\n", f"rollout:\n  {line}\n")
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("guards", "expected"),
    [
        ("{false_alarm: 0%}", "10:23: guards.false_alarm: must be more than 0% and at most 10%"),
        ("{false_alarm: 11%}", "10:23: guards.false_alarm: must be more than 0% and at most 10%"),
        ("{errors: {at_most: 1.5}}", "guards.errors.at_most: '1.5' is not a multiple of stable's; write for example"),
        ("{errors: {at_least: 1}}", "10:19: guards.errors.at_least: unknown key (did you mean 'at_most'?)"),
        ("{rejections: {ignore_below: 1%}}", "guards.rejections.ignore_below: '1%' is not a difference in perc"),
        ("{latency: {p42: 1.25x stable}}", "10:20: guards.latency.p42: 'p42' is not a quantile; write one from p50"),
        ("{latency: {}}", "10:19: guards.latency: needs exactly one quantile, such as p95"),
        ("{latency: {p50: 2x stable, p95: 2x stable}}", "10:19: guards.latency: needs exactly one quantile"),
        ("{error_rate: {max: 100%}}", "10:28: guards.error_rate.max: must be from 0.01% to 99.99%"),
        ("{eror_rate: {max: 1%}}", "10:10: guards.eror_rate: unknown key (did you mean 'error_rate'?)"),
        ("[errors]", "10:9: guards: must be a map, not a list"),
    ],
)
def test_guards_are_strict(guards: str, expected: str) -> None:
    found = told("rollout:\n", f"guards: {guards}\nrollout:\n")
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    "new",
    [
        "rollout: {canary: [v4], regions: {eu: us}, steps: {a: b}}",
        "rollout: {canary: v4, regions: [[eu], us], steps: [10%, {weight: [1]}, {}]}",
        "rollout: {regions: [eu, us]}",
        "rollout: v4",
        "rollout: *x",
    ],
)
def test_what_is_broken_is_not_complained_about_by_meaning(new: str) -> None:
    old = FILE.partition("rollout:\n")
    for problem in told("".join(old[1:]), new + "\n"):
        assert "stable" not in problem
        assert "step before" not in problem
        assert "twice" not in problem


@pytest.mark.parametrize(
    ("line", "regions", "expected"),
    [
        ("default: {v3: 30, v5: 70}", "[eu, us]", True),
        ("default: {v3: 30, v5: 70}", "[eu, default]", True),
        ("default: {v3: 30, v5: 70}", "[eu]", False),
        ("default: {v5: 100}", "[us]", True),
        ("default: {v3: ten, v5: 20}", "[us]", False),
        ("default: v3", "[us]", False),
        ("us: {v3: 30, v5: 70}", "[eu]", False),
        ("us: {v3: 30, v5: 70}", "[default]", True),
    ],
)
def test_stable_must_have_the_weight_where_the_rollout_goes(line: str, regions: str, expected: bool) -> None:
    text = (
        FILE.replace("default: {v3: 100}", line).replace("[eu, us]", regions).replace("{eu: [http", "{default: [http")
    )
    _, problems = load_model("m", text.encode(), file="f", regions=None)
    assert any("more than stable has to give" in problem.message for problem in problems) == expected


def test_a_step_that_is_too_much_is_told_once() -> None:
    found = told("{v3: 80, v5: 20}", "{v3: 20, v5: 80}")
    assert [problem.split(":")[0] for problem in found] == ["15"]


def test_a_step_is_compared_with_the_one_before() -> None:
    found = told("{weight: 10%, hold: 1h}", "{weight: 60%, hold: 1h}")
    assert [problem.split(":")[0] for problem in found] == ["15"]


def test_without_a_stable_its_share_is_not_judged() -> None:
    assert [problem.split(": ")[1] for problem in told("stable: v3\n", "")] == ["stable"]


@pytest.mark.parametrize(
    ("regions", "missing"), [("[eu, us]", "'us'"), ("[eu]", ""), ("[eu, default]", "'us'"), (None, "'default'")]
)
def test_the_canary_needs_upstreams_wherever_it_is_rolled_out(regions: str | None, missing: str) -> None:
    listed = "" if regions is None else f"  regions: {regions}\n"
    text = FILE.replace("v4: {model_uri: /b}", "v4: {upstreams: {eu: [http://b]}}").replace(
        "  regions: [eu, us]\n", listed
    )
    _, problems = load_model("m", text.encode(), file="f", regions=("eu", "us") if regions else None)
    found = [problem.message for problem in problems]
    assert len(found) == bool(missing)
    assert all(f"no upstream for region {missing}" in message for message in found)


def test_a_region_that_only_the_rollout_names_counts() -> None:
    text = FILE.replace("v4: {model_uri: /b}", "v4: {upstreams: {eu: [http://b]}}").replace("[eu, us]", "[eu, mars]")
    _, problems = load_model("m", text.encode(), file="f", regions=None)
    assert [problem.message.partition(",")[0] for problem in problems] == ["no upstream for region 'mars'"]
