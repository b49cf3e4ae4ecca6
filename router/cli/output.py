"""Data as a table, JSON, YAML or Markdown.

Rules:
1. `json` and `yaml` print what the API said, whole; `table` and `markdown` print the rows a person wants.
2. Nothing that came from elsewhere reaches a terminal as a control character.
3. Tables are never cut to a terminal's width: what was asked for is there, also in a pipe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "json", "yaml", "markdown")

Rows = Sequence[Sequence[str]]


def output_option(command: F) -> F:
    """Adds `-o table|json|yaml|markdown` as `output` to a command."""
    option = click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
    )
    return option(command)


def render(data: object, header: Sequence[str], rows: Rows, output: str) -> str:
    """`data` (whole) or `rows` under `header`, as `output` asks, without a line break at the end."""
    if output == "json":
        return json.dumps(data, indent=2, ensure_ascii=False)
    if output == "yaml":
        import yaml

        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip("\n")
    return (_markdown if output == "markdown" else _table)(header, [[clean(cell) for cell in row] for row in rows])


def clean(text: str) -> str:
    """`text` without control characters, line breaks included."""
    return "".join(character if character.isprintable() else " " for character in text)


def _table(header: Sequence[str], rows: Rows) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    first, *rest = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )
    return "\n".join([click.style(first, bold=True), *rest])


def _markdown(header: Sequence[str], rows: Rows) -> str:
    escaped = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])
