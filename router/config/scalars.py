"""Weights, durations, sizes, chances and comparisons: from an operator's text to a number, and weights back to text.

Rules:
1. Weights are hundredths of a percent (10 000 is all), durations seconds, sizes bytes; chances, percentage points and
   quantiles are parts of one; multiples are factors.
2. What could be read in two ways is refused with the question which one was meant.
3. A reader raises `ValueError` with a message that says what to write; it never echoes more than a few characters.
"""

from __future__ import annotations

import re
from decimal import Decimal

from router.config.problems import quote

ALL = 10_000
"""The whole of a region, in hundredths of a percent."""

WEIGHT_PATTERN = r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,2})?%$|^0(\.0+)?$|^[1-9][0-9]{0,2}(\.[0-9]{1,2})?$"
DURATION_PATTERN = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,3})?(ms|s|m|h)$|^0$"
SIZE_PATTERN = r"^(0|[1-9][0-9]{0,11})(B|KiB|MiB|GiB)$|^0$"
CHANCE_PATTERN = r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,4})?%$|^[1-9][0-9]{0,2}(\.[0-9]{1,4})?$"
POINTS_PATTERN = r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,4})?pp$"
MULTIPLE_PATTERN = r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,4})?x stable$"
QUANTILE_PATTERN = r"^p([5-9][0-9](\.[0-9])?)$"
COUNT_PATTERN = r"^[1-9][0-9]{0,8}$"

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DECIMAL_UNITS = {"k": "KiB", "kb": "KiB", "kib": "KiB", "m": "MiB", "mb": "MiB", "mib": "MiB", "g": "GiB", "gb": "GiB",
                  "gib": "GiB", "b": "B"}  # fmt: skip


def parse_weight(text: str) -> int:
    """Hundredths of a percent in `text`: `10`, `10%` and `0.25%`.

    Raises:
        ValueError: it is none, above 100%, finer than a hundredth of a percent, or a bare number below 1.
    """
    number = text.removesuffix("%")
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"{quote(text)} is not a weight; write a percentage such as 10, 10% or 0.25%")
    value = Decimal(number)
    if number == text and 0 < value < 1:
        raise ValueError(f"a bare {text} is ambiguous: was '{_plain(value * 100)}%' or '{_plain(value)}%' meant?")
    if value > 100:
        raise ValueError(f"{quote(text)} is more than 100%")
    if not re.fullmatch(WEIGHT_PATTERN, text):
        raise ValueError(f"{quote(text)} is finer than 0.01% or has a leading zero; write for example 10% or 0.25%")
    return int(value * 100)


def format_weight(weight: int) -> str:
    """`weight` (hundredths of a percent) as operators write it: `10%`, `0.25%`."""
    return f"{_plain(Decimal(weight) / 100)}%"


def parse_duration(text: str) -> float:
    """Seconds in `text`: `250ms`, `2s`, `10m`, `1h`, or a bare 0.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h)|0", text)
    if match is None or not re.fullmatch(DURATION_PATTERN, text):
        bare = _NUMBER.fullmatch(text)
        unit = (
            f": {text} of what? Write a unit, such as {text}s or {text}ms" if bare else "; write 250ms, 2s, 10m or 1h"
        )
        raise ValueError(f"{quote(text)} is not a duration{unit}")
    return float(Decimal(match[1]) * _SECONDS[match[2]]) if match[1] else 0.0


def parse_size(text: str) -> int:
    """Bytes in `text`: `512B`, `64KiB`, `10MiB`, `1GiB`, or a bare 0.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([0-9]+)(B|KiB|MiB|GiB)|0", text)
    if match is None or not re.fullmatch(SIZE_PATTERN, text):
        raise ValueError(f"{quote(text)} is not a size{_size_hint(text)}")
    return int(match[1]) * _BYTES[match[2]] if match[1] else 0


def parse_chance(text: str) -> float:
    """The part of one in `text`: `0.1%` is 0.001; `20` and `20%` are 0.2.

    Raises:
        ValueError: it is none, above 100%, finer than 0.0001%, or a bare number below 1.
    """
    number = text.removesuffix("%")
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"{quote(text)} is not a percentage; write for example 0.1% or 20%")
    value = Decimal(number)
    if number == text and value < 1:
        raise ValueError(f"a bare {text} is ambiguous: was '{_plain(value * 100)}%' or '{_plain(value)}%' meant?")
    if value > 100:
        raise ValueError(f"{quote(text)} is more than 100%")
    if not re.fullmatch(CHANCE_PATTERN, text):
        raise ValueError(f"{quote(text)} is finer than 0.0001% or has a leading zero; write for example 0.1% or 20%")
    return float(value / 100)


def parse_points(text: str) -> float:
    """The part of one in `text`, a difference of two percentages: `0.1pp` is 0.001.

    Raises:
        ValueError: it is none, or more than 100pp.
    """
    if not re.fullmatch(POINTS_PATTERN, text):
        near = re.fullmatch(r"([0-9.]{1,8}) ?(%|pp|)", text)
        hint = f" (did you mean '{near[1]}pp'?)" if near and re.fullmatch(POINTS_PATTERN, f"{near[1]}pp") else ""
        raise ValueError(f"{quote(text)} is not a difference in percentage points; write for example 0.1pp{hint}")
    value = Decimal(text.removesuffix("pp"))
    if value > 100:
        raise ValueError(f"{quote(text)} is more than 100pp")
    return float(value / 100)


def parse_multiple(text: str) -> float:
    """The factor in `text`: `1x stable`, `1.25x stable`.

    Raises:
        ValueError: it is none, or below 1x or above 100x.
    """
    if not re.fullmatch(MULTIPLE_PATTERN, text):
        near = re.fullmatch(r"([0-9.]{1,8}) ?x? ?(stable)?", text)
        meant = f"{near[1]}x stable" if near else ""
        hint = f" (did you mean '{meant}'?)" if re.fullmatch(MULTIPLE_PATTERN, meant) else ""
        raise ValueError(f"{quote(text)} is not a multiple of stable's; write for example 1.25x stable{hint}")
    value = Decimal(text.removesuffix("x stable"))
    if value < 1:
        raise ValueError(f"{quote(text)} would roll back a canary as good as stable; at least 1x stable")
    if value > 100:
        raise ValueError(f"{quote(text)} is more than 100x stable")
    return float(value)


def parse_quantile(text: str) -> float:
    """The part of one in `text`: `p50` to `p99.9`.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(QUANTILE_PATTERN, text)
    if match is None:
        raise ValueError(f"{quote(text)} is not a quantile; write one from p50 to p99.9, such as p95")
    return float(Decimal(match[1]) / 100)


def parse_count(text: str) -> int:
    """A whole number from 1 up, such as `500`.

    Raises:
        ValueError: it is none, or above 999 999 999.
    """
    if not re.fullmatch(COUNT_PATTERN, text):
        raise ValueError(f"{quote(text)} is not a whole number from 1 to 999999999")
    return int(text)


def _size_hint(text: str) -> str:
    near = re.fullmatch(r"([1-9][0-9]{0,11}) ?([A-Za-z]*)", text)
    if near is None:
        return "; write whole units, such as 64KiB or 10MiB"
    if not near[2]:
        return f": {text} of what? Write {text}B for bytes, or a unit such as 64KiB or 10MiB"
    unit = _DECIMAL_UNITS.get(near[2].lower())
    return f" (did you mean '{near[1]}{unit}'?)" if unit else "; the units are B, KiB, MiB and GiB"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
