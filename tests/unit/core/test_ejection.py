"""When an endpoint is left out, and for how long."""

from __future__ import annotations

from router.core.ejection import EndpointHealth


def fail(health: EndpointHealth, times: int, now: float) -> list[bool]:
    return [health.failed(now) for _ in range(times)]


def test_the_fifth_failure_in_a_row_ejects_for_ten_seconds() -> None:
    health = EndpointHealth()

    assert fail(health, 5, 100.0) == [False, False, False, False, True]
    assert health.ejected_until == 110.0


def test_a_success_clears_the_row() -> None:
    health = EndpointHealth()
    fail(health, 4, 100.0)
    health.succeeded()

    assert fail(health, 4, 101.0) == [False] * 4
    assert health.ejected_until == 0.0


def test_failures_during_an_ejection_do_not_lengthen_it() -> None:
    health = EndpointHealth()
    fail(health, 5, 100.0)

    assert fail(health, 20, 109.9) == [False] * 20
    assert health.ejected_until == 110.0


def test_the_first_failure_after_an_ejection_ejects_again_and_for_longer() -> None:
    health = EndpointHealth()
    fail(health, 5, 100.0)

    assert health.failed(110.0)
    assert health.ejected_until == 130.0
    assert health.failed(131.0)
    assert health.ejected_until == 161.0


def test_a_success_on_trial_gives_back_five_failures_but_not_the_count_of_ejections() -> None:
    health = EndpointHealth()
    fail(health, 5, 100.0)
    health.succeeded()

    assert fail(health, 5, 120.0) == [False] * 4 + [True]
    assert health.ejected_until == 140.0


def test_ten_good_minutes_are_forgiven() -> None:
    health = EndpointHealth()
    fail(health, 5, 100.0)
    health.succeeded()
    fail(health, 5, 120.0)
    health.succeeded()

    assert fail(health, 5, 140.0 + 600.1)[-1]
    assert health.ejected_until == 140.0 + 600.1 + 10.0
    assert health.times == 1
