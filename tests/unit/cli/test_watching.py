"""Shown again and again: in place on a terminal, elsewhere only what changed."""

from __future__ import annotations

import io
import os
import pty

import pytest

from router.cli.watching import follow
from tests.unit.control.fakes import FakeClock


class Impatient(FakeClock):
    """Interrupts after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    async def sleep(self, seconds: float) -> None:
        self.looks -= 1
        if not self.looks:
            raise KeyboardInterrupt


def test_without_a_terminal_each_change_is_printed_once() -> None:
    texts = iter(["one", "one", "two", "two"])
    out = io.StringIO()
    follow(lambda: next(texts), 1.0, out, Impatient(4))
    lines = out.getvalue().splitlines()
    assert lines[1::2] == ["one", "two"]
    assert lines[0] == "2023-11-14T22:30:00Z"
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_it_stays_in_place_and_in_the_window(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((10, 3)))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as out:
        follow(lambda: "\x1b[1mhead\x1b[0m\na very long line\nbelow the window", 1.0, out, Impatient(1))
        shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert shown.startswith("\x1b[H")
    assert "a very lo…\x1b[K" in shown
    assert "below" not in shown
    assert ("\x1b[1m" in shown) is not bool(no_color)
