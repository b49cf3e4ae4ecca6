from __future__ import annotations

import pytest

from router.control.totals import Tally
from router.core.outcome import Arm, ArmBatch, histogram_of
from router.web.dashboard.figures import FINE_SECONDS, History, quantile

SERIES = ("fraud", "v4", "default")
ARM = Arm("fraud", "default", "v4", "d", 1000, 9000, canary=True)


def batch(code: int, result: str, n: int, seconds: float = 0.02) -> ArmBatch:
    return ArmBatch(ARM, ((code, result, True, n),), duration=histogram_of([seconds] * n))


def test_a_window_is_what_came_since_it_began() -> None:
    history, tally = History(), Tally()
    tally.add(batch(200, "ok", 100))
    history.sample({SERIES: tally}, 0.0)
    tally.add(batch(200, "ok", 8))
    tally.add(batch(502, "failure", 2))
    history.sample({SERIES: tally}, FINE_SECONDS)
    late = history.figures({SERIES: tally}, [SERIES], 300.0, 310.0)
    assert (late.requests, late.failures, late.failure_rate, late.codes) == (10, 2, 0.2, {200: 8, 502: 2})
    assert late.duration.count == 10
    assert history.figures({SERIES: tally}, [SERIES], None, 310.0).requests == 110
    assert history.figures({SERIES: tally}, [SERIES], 300.0, 900.0).requests == 0
    assert history.figures({SERIES: tally}, [SERIES], 300.0, 100.0).requests == 110


def test_memory_is_bounded_and_series_that_are_gone_are_forgotten() -> None:
    history, tally = History(), Tally()
    for number in range(1000):
        tally.add(batch(200, "ok", 1))
        history.sample({SERIES: tally}, number * FINE_SECONDS)
    assert len(history._fine[SERIES]) == 16
    assert len(history._coarse[SERIES]) == 13
    assert 3600 / FINE_SECONDS - 20 < history.figures({SERIES: tally}, [SERIES], 3600.0, 20_000).requests < 200
    history.sample({}, 30_000.0)
    assert not history._fine


def test_an_idle_series_is_not_kept_again() -> None:
    history, tally = History(), Tally()
    for number in range(10):
        history.sample({SERIES: tally}, number * FINE_SECONDS)
    assert len(history._fine[SERIES]) == 1


def test_nothing_has_no_rate_and_no_quantile() -> None:
    nothing = History().figures({}, [SERIES], 300.0, 0.0)
    assert nothing.failure_rate is None
    assert nothing.quantile(0.5) is None


@pytest.mark.parametrize(("q", "seconds"), [(0.5, 0.0175), (0.99, 0.02485), (1.0, 0.025)])
def test_a_quantile_lies_in_its_bucket(q: float, seconds: float) -> None:
    assert quantile(histogram_of([0.02] * 50), q) == pytest.approx(seconds)


def test_beyond_the_last_bucket_its_bound_is_told() -> None:
    assert quantile(histogram_of([1000.0]), 0.5) == 60.0
