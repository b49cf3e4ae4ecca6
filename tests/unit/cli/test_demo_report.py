"""Tests of router.cli.demo_report."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from router.cli.demo_report import check, comparison, percent, quantile, tolerance
from router.cli.demo_traffic import Told, Visit
from router.errors import UpstreamError

DECLARED = {"eu-west": {"v1": 9000, "v2": 1000}}


def told(version: str, *, took: float = 0.01, right: bool = True, fault: str = "") -> Told:
    """One answer in eu-west."""
    return Told(Visit("eu-west", "http://x", 1), version, 0.0, took, right, fault)


def shares(v1: int, v2: int) -> list[Told]:
    """So many answers of each version."""
    return [told("v1")] * v1 + [told("v2")] * v2


def test_a_share_as_declared_passes() -> None:
    check(shares(905, 95), DECLARED)


def test_a_share_that_is_off_fails_with_both_numbers() -> None:
    with pytest.raises(UpstreamError, match=r"v1 got 80\.0 % of eu-west's requests, declared 90 %"):
        check(shares(800, 200), DECLARED)


def test_one_request_to_a_version_without_weight_fails() -> None:
    with pytest.raises(UpstreamError, match="declared 100 %"):
        check(shares(999, 1), {"eu-west": {"v1": 10_000, "v2": 0}})


def test_one_failed_request_fails_and_is_shown() -> None:
    with pytest.raises(UpstreamError, match="1 of 101 requests failed") as failed:
        check([*shares(90, 10), told("", fault="HTTP 502")], DECLARED)
    assert "HTTP 502" in failed.value.hint


def test_the_more_requests_the_less_tolerance() -> None:
    assert tolerance(10, 10_000) < tolerance(10, 1_000) < 5
    assert tolerance(0, 10) == tolerance(100, 10) == 0


@pytest.mark.parametrize(("q", "value"), [(0.5, 5.0), (0.95, 10.0), (0.0, 1.0), (1.0, 10.0)])
def test_quantiles_are_values_that_occurred(q: float, value: float) -> None:
    assert quantile([float(n) for n in range(10, 0, -1)], q) == value


def test_percent_of_nothing_is_nothing() -> None:
    assert percent(0, 0) == 0


def test_the_table_has_a_line_per_region_and_version() -> None:
    answers = [told("v1"), told("v1", right=False), told("v1", took=0.03), told("v2")]
    console = Console(width=80, file=StringIO(), record=True)
    console.print(comparison(answers, DECLARED | {"us-east": {"v1": 10_000, "v2": 0}}))
    lines = [line.split() for line in console.export_text().splitlines() if " v" in line]
    assert lines[1:] == [
        ["eu-west", "v1", "3", "75.0", "%", "90", "%", "10.0", "30.0", "30.0", "0", "66.7", "%"],
        ["eu-west", "v2", "1", "25.0", "%", "10", "%", "10.0", "10.0", "10.0", "0", "100.0", "%"],
        ["us-east", "v1", "0", "0.0", "%", "100", "%", "0"],
        ["us-east", "v2", "0", "0.0", "%", "0", "%", "0"],
    ]
