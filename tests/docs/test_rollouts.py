"""The page on rollouts shows the table as it is."""

from __future__ import annotations

from typing import get_args

from router.core.rollout import TABLE
from router.core.rollout_state import Phase
from tests.support.rollout_diagram import DOCUMENT, commands, diagram, render

PAGE = DOCUMENT.read_text(encoding="utf-8")


def test_diagram_and_table_are_current() -> None:
    assert render(PAGE) == PAGE, "run: python -m tests.support.rollout_diagram"
    assert diagram() in PAGE
    assert commands() in PAGE


def test_every_phase_is_drawn_and_explained() -> None:
    for phase in get_args(Phase):
        assert phase in TABLE
        assert f"\n| {phase} | " in PAGE
        assert f" {phase}: " in diagram()


def test_what_is_drawn_is_what_the_table_says() -> None:
    lines = diagram().splitlines()
    assert "    holding --> progressing: hold over" in lines
    assert "    awaiting_approval --> holding: promote / approve" in lines
    assert "    rolled_back --> [*]: readmit" in lines
    assert not any(line.startswith("    rolled_back -->") and "readmit" not in line for line in lines)
