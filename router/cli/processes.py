"""Which processes belong to a router, as the operating system has it.

Rules:
1. Read from /proc; where there is none, only the router's own process is known.
"""

from __future__ import annotations

from pathlib import Path


def family_of(pid: int) -> frozenset[int]:
    """`pid` and all its descendants."""
    parents = _parents()
    family = {pid}
    grown = True
    while grown:
        children = {child for child, parent in parents.items() if parent in family}
        grown = not children <= family
        family |= children
    return frozenset(family)


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name, in brackets, may hold anything.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        found[int(stat.parent.name)] = int(fields[1])
    return found
