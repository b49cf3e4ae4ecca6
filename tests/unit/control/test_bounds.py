"""From when on a request counts as slow."""

from __future__ import annotations

import pytest

from router.control.bounds import HALF_LIFE, LEAST, PAUSE, Bounds, quantile
from router.core.outcome import BUCKETS, Arm, ArmBatch, histogram_of

PLACE = ("fraud", "default")


def batch(seconds: float, n: int, *, canary: bool = False, region: str = "default") -> ArmBatch:
    arm = Arm("fraud", region, "v4" if canary else "v3", "d", 9000, 9000, canary)
    return ArmBatch(arm, duration=histogram_of([seconds] * n))


def settled(bounds: Bounds, now: float = 0.0) -> float:
    bounds.settle(PLACE, 0.95, now)
    return bounds.bound(PLACE)


def test_a_quantile_lies_in_its_bucket() -> None:
    counts = [0.0] * (len(BUCKETS) + 1)
    counts[4], counts[6] = 90.0, 110.0
    assert 0.01 <= quantile(counts, 0.3) <= 0.025
    assert 0.05 <= quantile(counts, 0.95) <= 0.1


def test_few_requests_or_endless_ones_set_no_bound() -> None:
    assert quantile([99.0] + [0.0] * len(BUCKETS), 0.95) == 0.0
    assert quantile([0.0] * len(BUCKETS) + [1000.0], 0.95) == 0.0


def test_only_stable_sets_a_bound() -> None:
    bounds = Bounds()
    bounds.learn([batch(5.0, 1000, canary=True)], 0.0)
    assert settled(bounds) == 0.0
    bounds.learn([batch(0.02, 1000)], 0.0)
    assert 0.01 < settled(bounds) <= 0.025


def test_it_changes_by_more_than_a_little_and_not_too_often() -> None:
    bounds = Bounds()
    bounds.learn([batch(0.02, 1000)], 0.0)
    assert bounds.settle(PLACE, 0.95, 0.0)
    assert not bounds.settle(PLACE, 0.95, PAUSE * 2)
    bounds.learn([batch(0.2, 5000)], PAUSE * 2)
    assert bounds.settle(PLACE, 0.95, PAUSE * 2)
    bounds.learn([batch(2.0, 90_000)], PAUSE * 2)
    assert not bounds.settle(PLACE, 0.95, PAUSE * 2.5)
    assert bounds.settle(PLACE, 0.95, PAUSE * 3.1)


def test_the_past_fades() -> None:
    bounds = Bounds()
    bounds.learn([batch(2.0, 10_000)], 0.0)
    assert settled(bounds) > 1.0
    later = HALF_LIFE * 10
    bounds.learn([batch(0.02, 1000)], later)
    assert settled(bounds, later) < 0.03


def test_a_bound_is_never_about_the_scheduler() -> None:
    bounds = Bounds()
    bounds.learn([batch(0.0001, 1000)], 0.0)
    assert settled(bounds) == pytest.approx(LEAST)


def test_models_that_are_gone_are_forgotten() -> None:
    bounds = Bounds()
    bounds.learn([batch(0.02, 1000)], 0.0)
    settled(bounds)
    bounds.keep_only(["fraud"])
    assert bounds.bound(PLACE) > 0
    bounds.keep_only([])
    assert bounds.bound(PLACE) == 0.0
