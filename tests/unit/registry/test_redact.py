"""Tests of router.registry.redact."""

from __future__ import annotations

import pytest

from router.registry.redact import first_line, without_credentials


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://alice:s3cret@mlflow:5000/x", "http://mlflow:5000/x"),
        ("no http://t0ken@a/ and https://u:p@b/c", "no http://a/ and https://b/c"),
        ("http://mlflow:5000/path@version", "http://mlflow:5000/path@version"),
        ("someone@example.com", "someone@example.com"),
    ],
)
def test_credentials_leave_every_url(text: str, clean: str) -> None:
    assert without_credentials(text) == clean


def test_only_the_first_line_that_says_something_is_kept() -> None:
    assert first_line("\n  \n reason\n<html>\n") == "reason"


def test_a_long_line_is_cut() -> None:
    assert len(first_line("x" * 1000)) == 300


def test_nothing_stays_nothing() -> None:
    assert first_line("") == ""
