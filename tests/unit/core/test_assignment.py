"""Whether requests are split as the weights say."""

from __future__ import annotations

import pytest

from router.core.assignment import Assignments

TEN = ("default", 1000, 9000)


def settled(canary: int, stable: int) -> Assignments:
    assignments = Assignments()
    assignments.add(TEN, True, 1000, 1000.0)
    assignments.add(TEN, True, canary, 1060.0)
    assignments.add(TEN, False, stable, 1061.0)
    return assignments


def test_a_right_split_raises_no_alarm_and_the_first_minute_is_left_out() -> None:
    assignments = settled(1000, 9000)

    assert assignments.totals == (1000, 9000)
    assert not assignments.check()
    assert assignments.log_e < 0.0


def test_a_wrong_split_raises_an_alarm_which_stays() -> None:
    assignments = settled(1600, 8400)
    assert assignments.check()
    assignments.add(TEN, False, 6000, 1070.0)

    assert assignments.check()


def test_a_deviation_too_small_to_matter_raises_none() -> None:
    assignments = settled(10_150_000, 89_850_000)

    assert assignments.log_e > 100.0
    assert not assignments.check()


def test_without_assignments_there_is_nothing_to_say() -> None:
    assignments = Assignments()

    assert not assignments.check()
    assert assignments.log_e == 0.0


def test_each_weight_is_a_stream_and_many_of_them_leave_memory_bounded() -> None:
    assignments = Assignments()
    for weight in range(1, 200):
        for moment in (1000.0, 1060.0):
            assignments.add(("default", weight, 10_000 - weight), False, 500, moment)

    assert len(assignments.state().streams) == 64
    assert assignments.state().past != 0.0


def test_a_restart_is_no_restart() -> None:
    before, after = settled(130, 870), Assignments()
    after.restore(before.state())

    assert after.log_e == pytest.approx(before.log_e)
    after.add(TEN, True, 100, 5000.0)
    assert after.totals == before.totals
    after.add(TEN, True, 100, 5061.0)
    assert after.totals == (230, 870)
    assert after.check()
