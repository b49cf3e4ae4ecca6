"""Bets, against exact numbers and against what must hold whatever comes."""

from __future__ import annotations

import json
from math import exp, inf, isclose, log
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.evidence import (
    Absolute,
    Bet,
    NonInferiority,
    SampleRatio,
    SpentKeys,
    alternatives_to,
    log_of,
    plain,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "evidence-vectors.json").read_text(encoding="utf-8")
)["vectors"]


def vectors(test: str) -> pytest.MarkDecorator:
    chosen = [pytest.param(vector, id=vector["name"]) for vector in VECTORS if vector["test"].startswith(test)]
    return pytest.mark.parametrize("vector", chosen)


def first_at(values: list[float], threshold: float) -> int | None:
    return next((index for index, e in enumerate(values) if e >= threshold), None)


def close(values: list[float], expected: list[float]) -> bool:
    return len(values) == len(expected) and all(
        isclose(a, b, rel_tol=1e-9) for a, b in zip(values, expected, strict=True)
    )


@vectors("TwoSampleBet")
def test_a_bet_is_worth_exactly_what_it_should_be_and_decides_at_the_right_event(vector: dict[str, Any]) -> None:
    params = vector["params"]
    bet = Bet(params["rho"], params["delta"], wallet=params["wallet"])
    pi = params["pi"]
    values = []
    deciding = []
    for index, event in enumerate(vector["events"]):
        match event:
            case ["pi", value]:
                pi = value
                continue
            case ["ok", k]:
                bet.on_good(k, pi)
            case arm:
                bet.on_bad(arm == "C", pi)
        values.append(bet.e)
        deciding.append(index)

    assert close(values, vector["e_values"])
    assert isclose(bet.e, vector["final_e"], rel_tol=1e-9)
    decided = first_at(values, 1.0 / params["alpha"])
    assert (None if decided is None else deciding[decided]) == vector["rollback_at_event_index"]


@vectors("NonInferiority")
def test_non_inferiority_is_worth_exactly_what_it_should_be(vector: dict[str, Any]) -> None:
    params = vector["params"]
    bet = NonInferiority(params["delta"])
    values = []
    for event in vector["events"]:
        match event:
            case ["ok", k]:
                bet.on_good(k, params["pi"])
            case arm:
                bet.on_bad(arm == "C", params["pi"])
        values.append(bet.e)

    assert close(values, vector["e_values"])
    assert first_at(values, 1.0 / params["alpha"]) == vector["promote_at_event_index"]


@vectors("SLO")
def test_the_absolute_bet_is_worth_exactly_what_it_should_be(vector: dict[str, Any]) -> None:
    params = vector["params"]
    bet = Absolute(params["p_max"], wallet=False)
    values = []
    for outcome in vector["outcomes"]:
        bet.observe(1 - outcome, outcome)
        values.append(bet.e)

    assert alternatives_to(params["p_max"]) == pytest.approx(params["alts"])
    assert close(values, vector["e_values"])
    assert first_at(values, 1.0 / params["alpha"]) == vector["rollback_at_index"]


@vectors("SRM")
def test_the_sample_ratio_is_worth_exactly_what_it_should_be(vector: dict[str, Any]) -> None:
    pi = vector["params"]["pi"]
    ratio = SampleRatio()
    if "nc" in vector:
        ratio.add(vector["nc"], vector["ns"])
        assert isclose(exp(ratio.log_e(pi)), vector["final_e"], rel_tol=1e-9)
        return
    assignments = vector["assignments"]
    arms = [0] * int(assignments.removeprefix("[0]*")) if isinstance(assignments, str) else assignments
    values = []
    for arm in arms:
        ratio.add(arm, 1 - arm)
        values.append(exp(ratio.log_e(pi)))
    assert isclose(values[-1], vector["final_e"], rel_tol=1e-9)
    assert close(values, vector.get("e_values", values))


@pytest.mark.parametrize("pi", [0.0, 1.0, -0.1, 1.5])
def test_an_event_without_a_draw_compares_nothing(pi: float) -> None:
    bet, promotion = Bet(delta=0.1), NonInferiority(0.005)
    bet.on_bad(True, pi)
    bet.on_good(5, pi)
    promotion.on_bad(True, pi)
    promotion.on_good(5, pi)

    assert (bet.e, bet.n) == (1.0, 0)
    assert promotion.e == pytest.approx(1.0)
    assert promotion.requests_to(20.0, pi, 0.0, 0.0) == inf


EVENTS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.01, 0.1, 0.5, 0.97])), max_size=60)


@given(events=EVENTS, cut=st.integers(0, 60), delta=st.sampled_from([0.0, 0.01]))
def test_a_restart_is_no_restart(events: list[tuple[bool, float]], cut: int, delta: float) -> None:
    whole, before, after = Bet(1.5, delta), Bet(1.5, delta), Bet(1.5, delta)
    for index, (canary, pi) in enumerate(events):
        for bet in (whole, before if index < cut else after):
            if index == cut:
                after.restore(before.state())
            bet.on_bad(canary, pi)
            bet.on_good(3, pi)
    if len(events) <= cut:
        after.restore(before.state())

    assert after.log_e == pytest.approx(whole.log_e, rel=1e-9, abs=1e-9)
    assert after.n == whole.n


@given(events=EVENTS)
def test_without_a_wallet_the_order_of_merging_does_not_matter(events: list[tuple[bool, float]]) -> None:
    forth, back = Bet(wallet=False), Bet(wallet=False)
    for canary, pi in events:
        forth.on_bad(canary, pi)
    for canary, pi in reversed(events):
        back.on_bad(canary, pi)

    assert forth.log_e == pytest.approx(back.log_e, rel=1e-9, abs=1e-9)


@given(events=EVENTS)
def test_with_a_wallet_equal_events_of_several_workers_may_be_exchanged(events: list[tuple[bool, float]]) -> None:
    one, other = Bet(), Bet()
    mirrored = [(canary, pi) for canary, pi in events]
    for position in range(len(mirrored) - 1):
        if mirrored[position] == mirrored[position + 1]:
            mirrored[position], mirrored[position + 1] = mirrored[position + 1], mirrored[position]
    for canary, pi in events:
        one.on_bad(canary, pi)
    for canary, pi in mirrored:
        other.on_bad(canary, pi)

    assert one.e == other.e


@given(pi=st.floats(0.001, 0.999), rho=st.floats(1.0, 5.0), past=EVENTS)
def test_under_the_null_the_next_bad_event_is_worth_nothing_on_average(
    pi: float, rho: float, past: list[tuple[bool, float]]
) -> None:
    won, lost = Bet(rho), Bet(rho)
    for canary, earlier in past:
        won.on_bad(canary, earlier)
        lost.on_bad(canary, earlier)
    before = won.e
    won.on_bad(True, pi)
    lost.on_bad(False, pi)
    share = pi * rho / (pi * rho + 1.0 - pi)

    assert share * won.e + (1.0 - share) * lost.e == pytest.approx(before, rel=1e-9)


@given(
    p=st.floats(0.001, 0.9),
    past=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=20),
    wallet=st.booleans(),
)
def test_at_its_limit_the_absolute_bet_is_worth_nothing_on_average(
    p: float, past: list[tuple[int, int]], wallet: bool
) -> None:
    bad, good = Absolute(p, wallet=wallet), Absolute(p, wallet=wallet)
    for goods, bads in past:
        bad.observe(goods, bads)
        good.observe(goods, bads)
    before = bad.log_e
    bad.observe(0, 1)
    good.observe(1, 0)

    gain = p * exp(bad.log_e - before) + (1.0 - p) * exp(good.log_e - before)
    assert gain == pytest.approx(1.0, rel=1e-9)


def test_wealth_beyond_any_float_neither_overflows_nor_is_lost() -> None:
    bet = Bet()
    for _ in range(400):
        bet.on_bad(True, 0.1)
    rich = bet.log_e
    assert bet.reached(1e199)
    resumed = Bet()
    resumed.restore(bet.state())
    for each in (bet, resumed):
        for _ in range(40_000):
            each.on_bad(False, 0.1)

    assert rich == pytest.approx(400 * log(10.0), rel=0.01)
    assert bet.e == plain(bet.log_e) < 1.0
    assert resumed.log_e == pytest.approx(bet.log_e, rel=1e-9)
    assert plain(rich) == 1e304


def test_a_long_good_past_does_not_hide_what_comes_late() -> None:
    bet, absolute = Bet(), Absolute(0.2)
    for _ in range(36):
        for arm in (False, False, False, True, *[False] * 6):
            bet.on_bad(arm, 0.1)
    absolute.observe(72_000, 0)
    for _ in range(12):
        bet.on_bad(True, 0.1)
        absolute.observe(0, 1)

    assert bet.e > 2500
    assert bet.reached(2500)
    assert not bet.reached(bet.e * 1.01)
    assert absolute.e > 10_000
    assert bet.leader >= 4


def test_marks_tell_since_when_the_evidence_speaks() -> None:
    bet = Bet()
    for number in range(200):
        bet.on_bad(number % 10 == 0, 0.1, (number, 0, 0, 0))
    for number in range(200, 206):
        bet.on_bad(True, 0.1, (number, 0, 0, 0))

    assert 190 <= bet.marks[bet.leader][0] <= 200


def test_large_rounds_stay_within_what_a_float_can_hold() -> None:
    absolute = Absolute(0.001)
    absolute.observe(1_000_000, 0)
    low = absolute.log_e
    absolute.observe(0, 10_000)

    assert low == pytest.approx(log(0.5), rel=1e-6)
    assert absolute.log_e > 3000
    resumed = Absolute(0.001)
    resumed.restore(absolute.state())
    assert resumed.log_e == pytest.approx(absolute.log_e)


def test_a_low_limit_bets_on_rates_near_it() -> None:
    assert alternatives_to(0.01)[:3] == pytest.approx((0.015, 0.03, 0.13375))


def test_what_is_missing_for_a_promotion_is_what_it_then_takes() -> None:
    bet = NonInferiority(0.005)
    missing = bet.requests_to(20.0, 0.1, 0.0, 0.0)
    bet.on_good(round(missing * 0.9), 0.1)
    early = bet.e
    bet.on_good(round(missing * 0.1) + 1, 0.1)

    assert early < 20.0 <= bet.e
    assert bet.requests_to(20.0, 0.1, 0.0, 0.0) == 0.0
    assert NonInferiority(0.005).requests_to(20.0, 0.1, 0.05, 0.0) == inf
    assert NonInferiority(0.005).requests_to(0.5, 0.1, 0.05, 0.0) == 0.0


def test_non_inferiority_goes_on_after_a_restart() -> None:
    before, after = NonInferiority(0.005), NonInferiority(0.005)
    before.on_good(1000, 0.1)
    before.on_bad(False, 0.1)
    after.restore(before.state())

    assert after.e == before.e


def test_a_state_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="components"):
        Bet().restore(Absolute(0.2).state())
    with pytest.raises(ValueError, match="components"):
        NonInferiority(0.005).restore(Absolute(0.2).state())


def test_many_weights_leave_memory_bounded() -> None:
    bet, promotion = Bet(), NonInferiority(0.005)
    for step in range(1, 1000):
        bet.on_bad(False, step / 1000)
        promotion.on_bad(False, step / 1000)

    assert len(bet._factors) <= 256
    assert len(promotion._factors) <= 256


def test_a_key_counts_once_and_a_full_memory_counts_no_new_ones() -> None:
    spent = SpentKeys(2)

    assert [spent.spend(key) for key in (7, 7, 2**64 - 1, 9, 7)] == [True, False, True, False, False]
    assert spent.full
    resumed = SpentKeys(2)
    resumed.restore(spent.state())
    assert len(resumed) == 2
    assert not resumed.spend(7)


def test_no_wealth_has_no_logarithm() -> None:
    assert log_of(0.0) == -inf
