"""Checks stay silent where what they look at is broken already; what they tell is tested with the loader."""

from __future__ import annotations

import pytest

from router.config.checks import check_model
from router.config.problems import Report
from router.config.yaml import Map, parse


def told(text: str, regions: tuple[str, ...] | None = ("eu",)) -> list[str]:
    """What the checks alone say about `text`."""
    report = Report("f")
    root = parse(text.encode()).root
    assert isinstance(root, Map)
    check_model(root, "m", regions, report)
    return [f"{problem.path}: {problem.message}" for problem in report.problems()]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "model: [m]\nversions: x\nstable: []\nregions: []\nstickiness: x\nfallback: *x\ntimeout: []\nbuffer: []\n",
        "versions: {a: x, b: {upstreams: x, headers: []}}\nstable: {default: [a]}\nregions: {default: x}\n",
        "versions: {a: {upstreams: [x]}}\nstable: a\nregions: {default: {a: ten}}\n",
        "versions: {a: {upstreams: {default: [x]}}}\nstable: a\nregions: {default: {a: [1]}}\n",
        "versions: *x\nstable: a\nregions: {default: {a: 100}}\n",
        "timeout: x\nattempt_timeout: 1h\nmax_body: x\nbuffer: 1GiB\n",
        "attempt_timeout: x\nbuffer: x\nmax_body: 1KiB\n",
        "fallback: stable\nidempotent: [x]\n",
        "versions: {a: {headers: {x: {env: A}, y: B}, upstreams: [x]}}\n",
    ],
)
def test_what_is_broken_is_not_complained_about_twice(text: str) -> None:
    assert told(text) == []


def test_weights_count_only_where_they_can_be_read() -> None:
    text = "versions: {a: {upstreams: {us: [x]}}}\nstable: b\nregions: {eu: {a: %s, b: 100}}\n"
    assert not any("no upstream" in problem for problem in told(text % "ten"))
    assert any("no upstream for region 'eu'" in problem for problem in told(text % "0.5%"))
