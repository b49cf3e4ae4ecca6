"""The model's config as code sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.config.schema import Guards, ModelConfig, Rollout, Step, Version
from router.core.snapshot import VersionFacts, compile_model


def config(**more: object) -> ModelConfig:
    """A small config with `more` in it."""
    versions = {"v3": {"model_uri": "models:/m/3"}, "v4": {"upstreams": ["http://a", "http://b"]}}
    return ModelConfig.model_validate({"model": "m", "versions": versions, "stable": "v3", **more})


def test_every_default_is_filled_in() -> None:
    found = config()
    assert found.stable == {"default": "v3"}
    assert found.versions["v4"].upstreams == {"default": ("http://a", "http://b")}
    assert (found.timeout, found.attempt_timeout) == (30.0, 30.0)
    assert (found.max_body, found.buffer) == (10 * 1024**2, 1024**2)
    assert (found.owner, found.description, found.stickiness) == ("", "", None)
    assert (found.idempotent, found.fallback, found.allow_override) == (False, False, False)
    assert (found.guards, found.rollout) == (Guards(), None)


def test_guards_have_defaults_one_by_one() -> None:
    found = Guards.model_validate({"errors": {"ignore_below": "0.5pp"}})
    assert (found.false_alarm, found.error_rate.max) == (0.001, 0.2)
    assert (found.errors.at_most, found.errors.ignore_below) == (1.0, 0.005)
    assert (found.rejections.at_most, found.rejections.ignore_below) == (1.0, 0.01)
    assert (found.latency_quantile, found.latency_at_most) == (0.95, 1.25)


def test_a_rollout_has_defaults() -> None:
    found = Rollout.model_validate({"canary": "v4", "steps": [{"weight": "10%"}]})
    assert found.steps == (Step(weight=1000, hold=0.0, approval=False),)
    when = found.promote_when
    assert (when.no_worse_than_stable_by, when.confidence, when.min_requests) == (0.005, 0.95, 500)
    assert (found.inconclusive_after, found.regions) == (86_400.0, None)


def test_a_rollout_goes_region_by_region_or_everywhere_at_once() -> None:
    def stages(*regions: str) -> list[int | None]:
        rollout = Rollout.model_validate({"canary": "v4", "steps": [{"weight": "10%"}], "regions": regions or None})
        return [rollout.stage_of(region) for region in ("eu", "us", "asia")]

    assert stages() == [0, 0, 0]
    assert stages("us", "eu") == [1, 0, None]
    assert stages("us", "default") == [1, 0, 1]


def test_an_attempt_gets_half_of_the_timeout_where_there_may_be_a_second() -> None:
    assert config(timeout="3s", idempotent="true").attempt_timeout == 1.5
    assert config(timeout="3s").attempt_timeout == 3.0
    assert config(timeout="3s", idempotent="true", attempt_timeout="3s").attempt_timeout == 3.0


def test_the_buffer_is_never_larger_than_the_largest_body() -> None:
    assert config(max_body="64KiB").buffer == 65_536
    assert config(max_body="64KiB", buffer="0").buffer == 0


def test_text_is_read_as_operators_write_it() -> None:
    found = config(
        regions={"default": {"v3": "99.75%", "v4": "0.25%"}},
        idempotent="true",
        fallback="stable",
        allow_override="false",
    )
    assert found.regions == {"default": {"v3": 9975, "v4": 25}}
    assert (found.idempotent, found.fallback, found.allow_override) == (True, True, False)


@pytest.mark.parametrize(
    "more",
    [
        {"idempotent": "yes"},
        {"fallback": "v3"},
        {"timeout": "0s"},
        {"timeout": "25h"},
        {"max_body": "1025GiB"},
        {"max_body": "0"},
        {"buffer": "65MiB"},
        {"owner": "a\nb"},
        {"owner": "a" * 257},
        {"versions": {}},
        {"gates": {}},
        {"guards": {"false_alarm": 0}},
        {"rollout": {"canary": "v4"}},
        {"stickiness": {"header": "connection"}},
    ],
)
def test_what_a_field_cannot_hold_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        config(**more)


def test_stable_and_weights_of_a_region_fall_back_to_default() -> None:
    found = config(
        stable={"default": "v3", "eu": "v4"}, regions={"default": {"v3": "90", "v4": "10"}, "us": {"v3": "100"}}
    )
    assert (found.stable_in("eu"), found.stable_in("us")) == ("v4", "v3")
    assert found.weights_in("eu") == {"v3": 9000, "v4": 1000}
    assert found.weights_in("us") == {"v3": 10_000}
    assert config(stable={"default": "v3", "eu": "v4"}).weights_in("eu") == {"v4": 10_000}


def test_upstreams_of_a_region_fall_back_to_default() -> None:
    upstreams = {"default": ["http://a"], "eu": ["http://b"]}
    found = config(versions={"v3": {"upstreams": upstreams}, "v4": {"model_uri": "/x"}})
    assert found.upstreams_in("v3", "eu") == ("http://b",)
    assert found.upstreams_in("v3", "us") == ("http://a",)
    assert found.upstreams_in("v4", "us") == ()
    assert config(versions={"v3": {"upstreams": {"eu": ["http://b"]}}}).upstreams_in("v3", "us") == ()


def test_a_credential_is_named_and_never_held() -> None:
    version = Version.model_validate({"upstreams": ["http://a"], "headers": {"Authorization": {"env": "TOKEN"}}})
    assert version.headers["authorization"].env == "TOKEN"
    with pytest.raises(ValidationError, match="never written into a config"):
        Version.model_validate({"upstreams": ["http://a"], "headers": {"authorization": "Bearer x"}})


@given(st.integers(0, 10_000), st.sampled_from(["250ms", "2s", "10m", "1h"]), st.sampled_from(["1KiB", "7MiB"]))
def test_what_was_dumped_is_read_again(weight: int, timeout: str, size: str) -> None:
    found = config(regions={"default": {"v3": 10_000 - weight, "v4": weight}}, timeout=timeout, max_body=size)
    assert ModelConfig.model_validate_json(found.model_dump_json()) == found


def test_guards_and_rollout_survive_being_dumped() -> None:
    found = config(
        guards={"false_alarm": "1%", "latency": {"p99.9": "2x stable"}, "error_rate": {"max": "5"}},
        rollout={
            "canary": "v4",
            "regions": ["eu"],
            "steps": [{"weight": "0.5%", "hold": "10m"}, {"weight": "100", "approval": "true"}],
            "promote_when": {"no_worse_than_stable_by": "0.25pp", "confidence": "99.5%", "min_requests": "7"},
            "inconclusive_after": "2h",
        },
    )
    assert found.guards.latency_quantile == 0.999
    assert ModelConfig.model_validate_json(found.model_dump_json()) == found


def test_a_route_follows_from_it() -> None:
    found = config(
        regions={"eu": {"v3": "90", "v4": "10"}}, stickiness={"cookie": "uid"}, idempotent="true", fallback="stable"
    )
    facts = {(version, region): VersionFacts("ready") for version in ("v3", "v4") for region in ("eu", "us")}
    route = compile_model(found, ("eu", "us"), facts, {}, digest="d")
    assert [target.weight for target in route.regions["eu"].targets] == [9000, 1000]
    assert [target.weight for target in route.regions["us"].targets] == [10_000, 0]
    assert (route.sticky_cookie, route.sticky_header, route.fallback) == ("uid", "", True)
