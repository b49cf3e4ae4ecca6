"""The reference is made from the code, and every page can be found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.cli.main import COMMANDS
from tests.support.reference import PAGES, REFERENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", PAGES)
def test_the_reference_is_current(file: str) -> None:
    assert (REFERENCE / file).read_text(encoding="utf-8") == PAGES[file](), "run: python -m tests.support.reference"


def test_every_command_and_the_metrics_that_matter_most_are_in_it() -> None:
    commands, metrics = (PAGES[file]() for file in ("cli.md", "metrics.md"))
    assert all(f"\n## {name}\n" in commands for name in COMMANDS)
    assert "| `canary_router_requests_total` | counter | `model`, `version`, `region`, `code`, `outcome` |" in metrics
    assert "| `canary_router_request_duration_seconds` | histogram | `model`, `version`, `region` |" in metrics


def pages(nav: list[Any]) -> Iterator[str]:
    """Every page that the navigation leads to."""
    for entry in nav:
        for where in entry.values():
            if isinstance(where, str):
                yield where
            else:
                yield from pages(where)


def test_the_navigation_leads_to_every_page() -> None:
    named = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("**/*.md")}
    assert len(named) == len(set(named))
    assert {page for page in named if not page.startswith("adr/")} == {
        page for page in there if not page.startswith("adr/")
    }
