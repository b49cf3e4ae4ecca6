"""How soon a bad canary would be rolled back."""

from __future__ import annotations

import pytest

from router.config.schema import ErrorRateGuard, Guards
from router.control.power import Power, Simulator


def ask(error_rate: float, *, weight: int = 1000, rate: float | None = 20.0, stable: float = 0.005) -> Power:
    found = Simulator(stable).power("v4", weight, 10_000 - weight, error_rate, Guards(), rate)
    assert found is not None
    return found


# What the design simulated for an alpha of 0.001 without shares, with room for the share that this guard has.
@pytest.mark.parametrize(("error_rate", "about"), [(0.02, 757), (0.05, 152), (0.2, 25), (1.0, 5)])
def test_it_agrees_with_what_the_engine_is_known_to_need(error_rate: float, about: int) -> None:
    assert about / 1.5 <= (ask(error_rate).requests or 0) <= about * 1.5


def test_the_same_question_has_the_same_answer() -> None:
    assert ask(0.05) == ask(0.05)


def test_time_follows_from_the_rate() -> None:
    slow, quick, unknown = ask(0.05, rate=1.0), ask(0.05, rate=10.0), ask(0.05, rate=None)
    assert slow.seconds is not None
    assert quick.seconds == pytest.approx(slow.seconds / 10)
    assert slow.seconds == pytest.approx((slow.requests or 0) / 0.1)
    assert (unknown.requests, unknown.seconds) == (slow.requests, None)
    assert (slow.at_most or 0) > (slow.requests or 0)


def test_what_is_no_worse_than_stable_is_never_rolled_back() -> None:
    found = ask(0.02, stable=0.02)
    assert (found.requests, found.at_most, found.seconds, found.failures) == (None, None, None, None)


def test_without_stable_beside_it_only_the_absolute_limit_guards() -> None:
    assert ask(0.05, weight=10_000).requests is None
    assert (ask(1.0, weight=10_000).requests or 0) < 20
    strict = Guards(error_rate=ErrorRateGuard(max=0.01))
    found = Simulator(0.005).power("v4", 10_000, 0, 0.05, strict, None)
    assert found is not None
    assert found.requests is not None


def test_a_perfect_pair_has_nothing_to_see() -> None:
    assert ask(0.0, stable=0.0).requests is None


def test_work_is_bounded() -> None:
    simulator = Simulator(0.005, budget=1)
    assert simulator.power("v4", 1000, 9000, 0.05, Guards(), None) is not None
    assert simulator.power("v4", 2000, 8000, 0.05, Guards(), None) is None
    assert simulator.power("v9", 1000, 9000, 0.05, Guards(), None) is not None
