"""Weights, durations, sizes, chances and comparisons."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import scalars
from router.config.scalars import (
    format_weight,
    parse_chance,
    parse_count,
    parse_duration,
    parse_multiple,
    parse_points,
    parse_quantile,
    parse_size,
    parse_weight,
)
from tests.unit.config.refusal import refusal


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("10", 1000),
        ("10%", 1000),
        ("0.25%", 25),
        ("0.01%", 1),
        ("0", 0),
        ("0%", 0),
        ("0.00", 0),
        ("1", 100),
        ("33.33", 3333),
        ("99.9%", 9990),
        ("100", 10_000),
        ("100.00%", 10_000),
    ],
)
def test_a_weight_is_hundredths_of_a_percent(text: str, weight: int) -> None:
    assert parse_weight(text) == weight


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1", "a bare 0.1 is ambiguous: was '10%' or '0.1%' meant?"),
        ("0.25", "was '25%' or '0.25%' meant?"),
        ("0.05", "was '5%' or '0.05%' meant?"),
        ("0.001%", "finer than 0.01%"),
        ("10.125", "finer than 0.01%"),
        ("010", "leading zero"),
        ("100.01", "more than 100%"),
        ("101%", "more than 100%"),
        ("-5", "not a weight"),
        ("1e1", "not a weight"),
        ("10 %", "not a weight"),
        ("", "not a weight"),
        (".5%", "not a weight"),
        ("10%%", "not a weight"),
        ("١٠", "not a weight"),
        ("9" * 5000, "not a weight"),
        ("10\n", "not a weight"),
        (".nan", "not a weight"),
    ],
)
def test_what_is_no_weight_is_refused_with_a_way_out(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_weight(text)


@given(st.integers(0, scalars.ALL))
def test_weights_survive_the_way_to_text_and_back(weight: int) -> None:
    text = format_weight(weight)
    assert parse_weight(text) == weight
    bare = text.removesuffix("%")
    if weight == 0 or weight >= 100:
        assert parse_weight(bare) == weight


@pytest.mark.parametrize(("weight", "text"), [(10_000, "100%"), (25, "0.25%"), (0, "0%"), (1000, "10%"), (150, "1.5%")])
def test_a_weight_reads_as_operators_write_it(weight: int, text: str) -> None:
    assert format_weight(weight) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("10m", 600.0), ("1h", 3600.0), ("1.5s", 1.5), ("0", 0.0), ("0s", 0.0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "5 of what? Write a unit, such as 5s or 5ms"),
        ("", "write 250ms, 2s, 10m or 1h"),
        ("1h30m", "not a duration"),
        ("-1s", "not a duration"),
        ("1.2.3s", "not a duration"),
        ("05s", "not a duration"),
        ("1d", "not a duration"),
        ("2 s", "not a duration"),
        ("9" * 5000 + "s", "not a duration"),
    ],
)
def test_what_is_no_duration_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64KiB", 65_536), ("10MiB", 10 * 1024**2), ("1GiB", 1024**3), ("512B", 512), ("0", 0)]
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1048576", "1048576 of what? Write 1048576B for bytes"),
        ("10MB", "did you mean '10MiB'?"),
        ("64k", "did you mean '64KiB'?"),
        ("10 MiB", "did you mean '10MiB'?"),
        ("10TiB", "the units are B, KiB, MiB and GiB"),
        ("1.5MiB", "write whole units"),
        ("", "write whole units"),
        ("9" * 5000, "write whole units"),
    ],
)
def test_what_is_no_size_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [("0.1%", 0.001), ("20%", 0.2), ("20", 0.2), ("100", 1.0), ("0%", 0.0), ("0.0001%", 0.000001), ("99.99%", 0.9999)],
)
def test_a_chance_is_a_part_of_one(text: str, part: float) -> None:
    assert parse_chance(text) == part


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1", "a bare 0.1 is ambiguous: was '10%' or '0.1%' meant?"),
        ("0", "a bare 0 is ambiguous"),
        ("101%", "more than 100%"),
        ("0.00001%", "finer than 0.0001%"),
        ("010%", "leading zero"),
        ("", "not a percentage"),
        ("-1%", "not a percentage"),
        ("9" * 5000, "not a percentage"),
    ],
)
def test_what_is_no_chance_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_chance(text)


@pytest.mark.parametrize(("text", "part"), [("0.1pp", 0.001), ("1pp", 0.01), ("0pp", 0.0), ("100pp", 1.0)])
def test_points_are_a_part_of_one(text: str, part: float) -> None:
    assert parse_points(text) == part


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1%", "write for example 0.1pp (did you mean '0.1pp'?)"),
        ("0.1", "did you mean '0.1pp'?"),
        ("0.1 pp", "did you mean '0.1pp'?"),
        ("1.2.3", "write for example 0.1pp"),
        ("pp", "write for example 0.1pp"),
        ("101pp", "more than 100pp"),
    ],
)
def test_what_is_no_difference_in_points_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_points(text)


@pytest.mark.parametrize(("text", "factor"), [("1x stable", 1.0), ("1.25x stable", 1.25), ("100x stable", 100.0)])
def test_a_multiple_is_a_factor(text: str, factor: float) -> None:
    assert parse_multiple(text) == factor


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.25", "did you mean '1.25x stable'?"),
        ("1.25x", "did you mean '1.25x stable'?"),
        ("2 x stable", "did you mean '2x stable'?"),
        ("1.2.3x", "write for example 1.25x stable"),
        ("2x canary", "write for example 1.25x stable"),
        ("0.9x stable", "would roll back a canary as good as stable"),
        ("100.1x stable", "more than 100x stable"),
    ],
)
def test_what_is_no_multiple_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_multiple(text)


def test_a_quantile_is_a_part_of_one() -> None:
    assert [parse_quantile(text) for text in ("p50", "p95", "p99.9")] == [0.5, 0.95, 0.999]
    for text in ("p49", "p100", "p99.99", "95", "mean"):
        with pytest.raises(ValueError, match="is not a quantile; write one from"):
            parse_quantile(text)


def test_a_count_is_a_whole_number() -> None:
    assert parse_count("500") == 500
    for text in ("0", "-1", "1.5", "1e3", "1" * 5000, "01"):
        with pytest.raises(ValueError, match="is not a whole number from 1"):
            parse_count(text)


READERS = (
    parse_weight, parse_duration, parse_size, parse_chance, parse_points, parse_multiple, parse_quantile, parse_count
)  # fmt: skip


@given(st.text(max_size=30) | st.from_regex(r"[0-9.]{0,9} ?(%|pp|x stable|x|)"))
def test_text_is_read_or_refused_with_a_short_message(text: str) -> None:
    for parse in READERS:
        assert refusal(parse, text).isprintable()
        assert len(refusal(parse, text)) < 500
