from __future__ import annotations

import pytest

from router.web.dashboard import words


def plain(text: str) -> str:
    return text.replace(words.HARD, " ").replace(words.THIN, " ")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (words.count(12345), "12 345"),
        (words.percent(None), "–"),
        (words.percent(0.0), "0 %"),
        (words.percent(0.00523), "0.52 %"),
        (words.percent(1.0), "100 %"),
        (words.weight(12.5), "12.5 %"),
        (words.rate(0.0), "0/s"),
        (words.rate(12.34), "12.3/s"),
        (words.rate(0.05), "3/min"),
        (words.rate(0.0005), "1.8/h"),
        (words.duration(None), "–"),
        (words.duration(0.0344), "34.4 ms"),
        (words.duration(2.5), "2.5 s"),
        (words.size(None), "–"),
        (words.size(3 * 2**30), "3 GiB"),
        (words.size(78 * 2**20), "78 MiB"),
        (words.left(244.2), "4:05"),
        (words.left(3723), "1:02:03"),
        (words.span(5400), "1 h 30 min"),
        (words.span(0), "0 s"),
        (words.ago(100, 105), "just now"),
        (words.ago(100, 145), "40 s ago"),
        (words.ago(0, 7300), "2 h ago"),
        (words.evidence(1.234), "1.2"),
        (words.evidence(4000), "4 000"),
        (words.evidence(3e12), "10^12"),
        (words.moment(0), "1970-01-01T00:00:00Z"),
        (words.clock(0), "01 Jan 1970, 00:00:00 UTC"),
    ],
)
def test_numbers_read_well(shown: str, text: str) -> None:
    assert plain(shown) == text
