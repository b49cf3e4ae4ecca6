from __future__ import annotations

from router.control.backoff import Backoff


def test_pauses_double_up_to_the_limit_and_start_anew() -> None:
    backoff = Backoff(1.0, 5.0)
    pauses = []
    for _ in range(5):
        backoff.fail()
        pauses.append(backoff.pause)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.succeed()
    backoff.fail()
    assert backoff.pause == 1.0


def test_three_failures_in_a_row_are_given_up_on() -> None:
    backoff = Backoff()
    given_up = []
    for _ in range(4):
        backoff.fail()
        given_up.append(backoff.given_up)
    backoff.succeed()
    given_up.append(backoff.given_up)
    assert given_up == [False, False, True, True, False]


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(1.0, 30.0)
    for _ in range(5000):
        backoff.fail()
    assert backoff.pause == 30.0
