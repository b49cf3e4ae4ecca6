"""Who moves when another config takes the place of one."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.schema import ModelConfig
from router.control.splits import Move, Movement, ladder_of, movement, split_of, weights_of
from router.core.split import slot_of
from tests.support.configs import config_of, text_of

SAME = dict.fromkeys(("v3", "v4", "v5"), True)
ROLLOUT = "rollout:\n  canary: v4\n  regions: [eu-west, us-east]\n  steps: [{weight: 1%}, {weight: 50%}]\n"


def config(v4: int, v5: int = 0, stable: str = "v3") -> ModelConfig:
    return config_of(text_of(split=f"v3: {100 - v4 - v5}, v4: {v4}, v5: {v5}", stable=stable))


def moved(before: ModelConfig, after: ModelConfig) -> Movement:
    return movement(split_of(before, "default"), split_of(after, "default"), same=SAME, same_key=True)


def test_raising_a_canary_moves_what_it_gets_and_nobody_else() -> None:
    assert moved(config(10), config(30)) == Movement((Move("v3", "v4", 2000),), 2000, 0)


def test_promotion_moves_only_who_is_not_there_yet() -> None:
    assert moved(config(50), config(100)) == Movement((Move("v3", "v4", 5000),), 5000, 0)
    assert moved(config(100), config(100, stable="v4")) == Movement()


def test_users_who_leave_a_version_that_keeps_its_weight_are_counted() -> None:
    # The new stable has its slots in the middle, and the other canary takes over those from 0 up.
    before = config_of(text_of(split="v3: 80, v4: 20"))
    after = config_of(text_of(split="v4: 80, v5: 20", stable="v4"))
    assert moved(before, after).needless == 2000


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(0, 50)] * 4))
def test_shares_are_those_of_real_keys(weights: tuple[int, int, int, int]) -> None:
    v4, v5, later_v4, later_v5 = weights
    before, after = split_of(config(v4, v5), "default"), split_of(config(later_v4, later_v5), "default")
    found = movement(before, after, same=SAME, same_key=True)
    keys = Counter(
        (before.targets[before.slots.version_at(slot)].version, after.targets[after.slots.version_at(slot)].version)
        for slot in (slot_of(b"fraud", b"user-%d" % number) for number in range(4000))
    )
    for move in found.moves:
        assert abs(keys[move.source, move.target] / 4000 - move.share / 10_000) < 0.05
    assert {pair for pair in keys if pair[0] != pair[1]} <= {(move.source, move.target) for move in found.moves}


def test_raising_two_canaries_moves_nobody_who_need_not() -> None:
    assert moved(config(10, 5), config(30, 20)).needless == 0


def test_another_key_draws_everybody_anew() -> None:
    found = movement(split_of(config(10), "default"), split_of(config(10), "default"), same=SAME, same_key=False)
    assert found == Movement((Move("v3", "v4", 900), Move("v4", "v3", 900)), 1800, 0, exact=False)


def test_another_model_under_the_same_name_is_a_move() -> None:
    same = {**SAME, "v4": False}
    found = movement(split_of(config(10), "default"), split_of(config(10), "default"), same=same, same_key=True)
    assert found.moves == (Move("v4", "v4", 1000),)


def test_a_rollout_gives_its_weights_step_by_step_in_each_region() -> None:
    rolled = config_of(text_of(split="v3: 100", more=ROLLOUT))
    regions = ("default", "eu-west", "us-east")
    assert ladder_of(rolled, "eu-west", regions) == (100, 5000)
    assert ladder_of(rolled, "us-east", regions) == (0, 100, 5000)
    assert ladder_of(rolled, "default", regions) == ()
    assert ladder_of(config(10), "default", regions) == ()
    assert weights_of(split_of(rolled, "eu-west", 100)) == {"v3": 9900, "v4": 100}


def test_a_step_that_waits_for_approval_has_no_weight_yet() -> None:
    waiting = ROLLOUT.replace("{weight: 1%}", "{weight: 1%, approval: true}")
    assert ladder_of(config_of(text_of(split="v3: 100", more=waiting)), "eu-west", ("eu-west",)) == (0, 100, 5000)
