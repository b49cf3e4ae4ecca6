"""Tests of router.serving.printed."""

from __future__ import annotations

import subprocess
import sys

from router.serving.printed import LONGEST, PER_SECOND, Printed


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(*chunks: bytes) -> list[str]:
    """What comes of `chunks`."""
    lines: list[str] = []
    Printed(lines.append, Clock()).pump(iter(chunks))
    return lines


def test_one_line_printed_is_one_line_said() -> None:
    assert said(b"one\ntw", b"o\n\nthree") == ["one", "two", "three"]


def test_no_line_can_pass_for_another() -> None:
    assert said(b"a\rb\x1b[31m\x00\xe2\x80\xa8c\xff\n") == ["a\\rb\\x1b[31m\\x00\\u2028c\\xff"]


def test_a_line_is_capped_and_one_without_end_as_well() -> None:
    assert said(b"x" * 10_000 + b"\n") == ["x" * LONGEST + "…"]
    assert said(*[b"y" * 10_000] * 5) == ["y" * LONGEST + "…"]


def test_what_is_too_much_is_counted() -> None:
    lines: list[str] = []
    clock = Clock()

    def chunks() -> object:
        yield b"z\n" * (PER_SECOND + 5)
        clock.now = 1.0
        yield b"later\n"

    Printed(lines.append, clock).pump(chunks())  # type: ignore[arg-type] # a generator is an iterator
    assert lines[:PER_SECOND] == ["z"] * PER_SECOND
    assert lines[PER_SECOND:] == ["(5 more lines were printed, and left out here)", "later"]


def test_the_descriptors_are_taken_over_and_given_back() -> None:
    code = """
import os, sys
from router.serving.printed import Capture
capture = Capture("fraud/v1")
capture.begin()
print("by print")
os.system("echo by a child >&2")
capture.real.write("our own\\n")
capture.end()
sys.stderr.write("afterwards\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    assert sorted(done.stderr.splitlines()) == [
        "afterwards",
        "fraud/v1 printed: by a child",
        "fraud/v1 printed: by print",
        "our own",
    ]
