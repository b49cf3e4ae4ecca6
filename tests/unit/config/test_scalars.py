"""Weights, durations and sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import scalars
from router.config.scalars import format_weight, parse_duration, parse_size, parse_weight
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


@given(st.text(max_size=30))
def test_text_is_read_or_refused_with_a_short_message(text: str) -> None:
    for parse in (parse_weight, parse_duration, parse_size):
        assert refusal(parse, text).isprintable()
        assert len(refusal(parse, text)) < 500
