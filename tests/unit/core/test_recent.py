"""The last minute of an arm."""

from __future__ import annotations

from router.core.recent import Recent


def test_nothing_seen_is_nothing_failing() -> None:
    recent = Recent()

    assert not recent.failing(0.1, 1000.0)
    assert recent.requests(1000.0) == 0


def test_a_minute_later_all_is_forgotten() -> None:
    recent = Recent()
    recent.add(100, 50, 1000.0)

    assert recent.failing(0.1, 1050.0)
    assert recent.requests(1050.0) == 100
    assert not recent.failing(0.1, 1065.0)
    assert recent.requests(1065.0) == 0


def test_slices_are_forgotten_one_by_one() -> None:
    recent = Recent()
    for second in range(120):
        recent.add(1, 0, 1000.0 + second)

    assert 55 <= recent.requests(1119.0) <= 60


def test_the_last_few_requests_tell_before_the_minute_does() -> None:
    recent = Recent()
    for second in range(60):
        recent.add(100, 0, 1000.0 + second)
    assert not recent.failing(0.1, 1059.0)
    recent.add(3, 3, 1059.5)

    assert recent.failing(0.1, 1059.5)
    recent.add(100, 0, 1060.0)
    assert not recent.failing(0.1, 1060.0)


def test_a_clock_that_stands_still_or_steps_back_changes_nothing() -> None:
    recent = Recent()
    recent.add(10, 5, 1000.0)
    recent.add(10, 5, 990.0)

    assert recent.requests(1000.0) == 20
