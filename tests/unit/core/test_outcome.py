"""Outcomes add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.outcome import BUCKETS, Histogram, add_counts, histogram_of

DURATIONS = st.lists(st.floats(0, 120, allow_nan=False), max_size=30)
COUNTS = st.lists(
    st.tuples(st.sampled_from([200, 400, 502]), st.sampled_from(["ok", "failure"]), st.booleans(), st.integers(1, 9)),
    max_size=12,
)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (0.0025, 1), (60.0, len(BUCKETS) - 1), (61.0, len(BUCKETS))],
)
def test_a_duration_lies_in_the_first_bucket_whose_bound_it_does_not_exceed(seconds: float, bucket: int) -> None:
    histogram = histogram_of([seconds])

    assert histogram.counts[bucket] == histogram.count == 1
    assert histogram.total == seconds


@given(DURATIONS, DURATIONS)
def test_the_sum_of_histograms_is_the_histogram_of_all(left: list[float], right: list[float]) -> None:
    total = histogram_of(left) + histogram_of(right)

    assert total.counts == histogram_of([*left, *right]).counts
    assert total.total == pytest.approx(sum(left) + sum(right))
    assert total.count == len(left) + len(right)


def test_an_empty_histogram_changes_nothing() -> None:
    assert Histogram() + histogram_of([1.0]) == histogram_of([1.0])
    assert Histogram().count == 0


def test_buckets_rise_to_a_minute() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert BUCKETS[-1] == 60.0
    assert len(Histogram().counts) == len(BUCKETS) + 1


@given(COUNTS, COUNTS)
def test_counts_add_up_in_any_order(
    left: list[tuple[int, str, bool, int]], right: list[tuple[int, str, bool, int]]
) -> None:
    total = add_counts(left, right)

    assert total == add_counts(right, left) == add_counts((), [*left, *right])
    assert sum(n for *_, n in total) == sum(n for *_, n in (*left, *right))
    assert len({tuple(key) for *key, _ in total}) == len(total)
