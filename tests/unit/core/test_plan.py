"""What a canary's config plans for it."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.schema import ModelConfig, Rollout
from router.core.plan import Plan, Position, Rung, latch_digest, plan_of

REGIONS = ("eu", "us", "asia")


def config(**more: Any) -> ModelConfig:
    versions = {name: {"model_uri": f"/{name}"} for name in ("v3", "v4", "v5")}
    return ModelConfig.model_validate({"model": "m", "versions": versions, "stable": "v3", **more})


def rollout(*regions: str, **more: Any) -> dict[str, Any]:
    steps = [{"weight": "10%", "hold": "1m"}, {"weight": "50%", "approval": "true"}]
    return {"canary": "v4", "regions": list(regions) or None, "steps": steps, **more}


def plan(*regions: str, served: tuple[str, ...] = REGIONS) -> Plan:
    return plan_of(config(rollout=rollout(*regions)), "v4", served, digest="d")


def test_a_rollout_is_a_plan() -> None:
    found = plan_of(config(rollout=rollout("us", "eu", promote_when={"min_requests": "7"})), "v4", REGIONS, digest="d")

    assert found == Plan("m", "v4", "d", (("us",), ("eu",)), (Rung(1000, 60.0), Rung(5000, 0.0, True)), {}, 7, 86_400.0)
    assert found.automatic


def test_weights_by_hand_are_the_plan_without_steps() -> None:
    found = plan_of(
        config(
            stable={"default": "v3", "us": "v4"},
            regions={"default": {"v3": "100"}, "eu": {"v3": "90", "v4": "10"}, "us": {"v4": "100"}},
        ),
        "v4",
        REGIONS,
        digest="d",
    )

    assert found == Plan("m", "v4", "d", by_hand={"eu": 1000, "asia": 0})
    assert not found.automatic


def test_another_canary_beside_a_rollout_is_set_by_hand() -> None:
    found = plan_of(config(rollout=rollout(), regions={"default": {"v3": "80", "v5": "20"}}), "v5", ("eu",), digest="d")

    assert found == Plan("m", "v5", "d", by_hand={"eu": 2000})


@pytest.mark.parametrize(
    ("regions", "served", "positions"),
    [
        ((), REGIONS, [(0, 0), (0, 1)]),
        (("us", "eu"), REGIONS, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (("us", "eu"), ("eu",), [(1, 0), (1, 1)]),
        (("us", "eu", "default"), ("us", "asia"), [(0, 0), (0, 1), (2, 0), (2, 1)]),
        (("us", "eu"), ("us",), [(0, 0), (0, 1)]),
    ],
)
def test_steps_come_stage_by_stage_where_this_router_serves_them(
    regions: tuple[str, ...], served: tuple[str, ...], positions: list[tuple[int, int]]
) -> None:
    found = plan(*regions, served=served)
    walked: list[Position] = []
    position: Position | None = found.first
    while position is not None:
        walked.append(position)
        position = found.after(position)

    assert walked == positions


def test_a_plan_that_goes_nowhere_here_is_not_automatic() -> None:
    assert not plan("us", served=("eu",)).automatic


def test_weights_follow_the_position() -> None:
    found = plan("us", "eu")

    def weights(stage: int, step: int) -> list[int]:
        return [found.weight_at(Position(stage, step), region) for region in REGIONS]

    assert weights(0, -1) == [0, 0, 0]
    assert weights(0, 0) == [0, 1000, 0]
    assert weights(0, 1) == [0, 5000, 0]
    assert weights(1, 0) == [1000, 5000, 0]
    assert weights(1, 1) == [5000, 5000, 0]


def test_a_position_in_words() -> None:
    assert plan("us", "eu").where(Position(1, 0)) == "step 1 of 2 in eu"
    assert plan().where(Position(0, 1)) == "step 2 of 2 in eu, us, asia"
    assert plan("us", served=("eu",)).where(Position(0, 0)) == "step 1 of 2 in no region of this router"


def test_the_digest_is_that_of_what_the_canary_is_and_of_its_rollout() -> None:
    one = Rollout.model_validate(rollout())
    other = Rollout.model_validate(rollout("eu"))
    renamed = one.model_copy(update={"canary": "another-name"})

    assert latch_digest(["a", "b"], one) == latch_digest(["b", "a", "a"], one) == latch_digest(["a", "b"], renamed)
    assert len({latch_digest(what, how) for what in (["a"], ["b"]) for how in (None, one, other)}) == 6
