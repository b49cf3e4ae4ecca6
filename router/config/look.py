"""Looking into the tree of a model's file, any part of which may be absent or broken.

Rules:
1. Nothing raises: what is not there, or cannot be read, is None or empty. Who reads shapes tells what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from router.config.fields import DEFAULT_REGION
from router.config.problems import Report, one_of, quote
from router.config.scalars import parse_weight
from router.config.yaml import Entry, Map, Node, Path, Text

_T = TypeVar("_T")


def get(node: Node, *keys: str) -> Node | None:
    """The value that `keys` lead to, or None."""
    for key in keys:
        entry = node.entries.get(key) if isinstance(node, Map) else None
        if entry is None:
            return None
        node = entry.value
    return node


def entries(node: Node, *keys: str) -> Mapping[str, Entry]:
    """The lines of the map that `keys` lead to; empty where there is none."""
    found = get(node, *keys)
    return found.entries if isinstance(found, Map) else {}


def read(node: Node | None, parse: Callable[[str], _T], default: _T | None) -> _T | None:
    """What `node` says, `default` where it is absent, None where it cannot be read."""
    if node is None:
        return default
    try:
        return parse(node.text) if isinstance(node, Text) else None
    except ValueError:
        return None


def weight_of(node: Node | None) -> int | None:
    """What `node` says as a weight, in hundredths of a percent; None where that cannot be read."""
    return read(node, parse_weight, None)


def stable_in(root: Map, region: str) -> str:
    """The stable version of `region`, as far as the file says it readably."""
    stable = get(root, "stable")
    if isinstance(stable, Map):
        stable = get(stable, region) or get(stable, DEFAULT_REGION)
    return stable.text if isinstance(stable, Text) else ""


def check_defined(at: Text, path: Path, versions: Mapping[str, Entry], report: Report) -> None:
    """Reports a version at `at` that `versions` does not have; `path` is where it stands."""
    if versions and at.text not in versions:
        hint = "" if report.full else one_of(at.text, versions)
        report.add(at.line, at.column, path, f"no version {quote(at.text)} is defined under versions{hint}")
