"""What `serve` makes of its options."""

from __future__ import annotations

import click
import pytest

from router.cli.serve import listeners


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        (["127.0.0.1:8080"], "127.0.0.1:8080"),
        (["eu-west=127.0.0.1:8080"], {"eu-west": "127.0.0.1:8080"}),
        (["eu=[::1]:1", "us=:2"], {"eu": "[::1]:1", "us": ":2"}),
    ],
)
def test_one_listener_or_one_per_region(values: list[str], meant: object) -> None:
    assert listeners(values) == meant


@pytest.mark.parametrize(
    "values", [["127.0.0.1:1", "127.0.0.1:2"], ["eu=:1", ":2"], ["=:1", "us=:2"], ["eu=:1", "eu=:2"]]
)
def test_several_listeners_need_a_region_each(values: list[str]) -> None:
    with pytest.raises(click.UsageError, match="region"):
        listeners(values)
