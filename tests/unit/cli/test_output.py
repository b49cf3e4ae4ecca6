"""Tables, JSON, YAML, Markdown."""

from __future__ import annotations

import json

import click
import pytest
import yaml

from router.cli.output import render

DATA = {"models": [{"model": "fraud", "note": "größer"}]}
HEADER = ("MODEL", "WEIGHT")
ROWS = [("fraud", "90 %"), ("a-much-longer-name", "5 %")]


def test_a_table_is_aligned_and_whole() -> None:
    lines = click.unstyle(render(DATA, HEADER, [*ROWS, ("x" * 300, "-")], "table")).splitlines()
    assert lines[0].split() == ["MODEL", "WEIGHT"]
    assert {line.index(cell) for line, cell in zip(lines, ("WEIGHT", "90 %", "5 %", " -"), strict=True)} <= {301, 302}


def test_json_and_yaml_are_everything_that_was_said() -> None:
    assert json.loads(render(DATA, HEADER, ROWS, "json")) == DATA
    assert yaml.safe_load(render(DATA, HEADER, ROWS, "yaml")) == DATA


def test_markdown_is_a_table_that_cells_cannot_break() -> None:
    assert render(DATA, HEADER, [("a|b\\c", "1 %")], "markdown").splitlines() == [
        "| MODEL | WEIGHT |",
        "| --- | --- |",
        "| a\\|b\\\\c | 1 % |",
    ]


@pytest.mark.parametrize("output", ["table", "markdown"])
def test_nothing_reaches_a_terminal_as_a_control_character(output: str) -> None:
    printed = click.unstyle(render(DATA, HEADER, [("evil\x1b]0;title\x07\nname", "1 %")], output))
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "evil ]0;title  name" in printed


def test_no_rows_leave_the_header() -> None:
    assert click.unstyle(render({"models": []}, HEADER, [], "table")) == "MODEL  WEIGHT"
