"""What a gate found: the words and numbers that people read where a version is held back.

Rules:
1. A finding says what was looked at, where, what was found and what was needed, whether it passed or failed.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

NOTHING = "nothing"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One gate's finding. `gate` is its path under `gates`, such as `metrics.auc.min`."""

    gate: str
    passed: bool
    looked_at: str
    where: str
    found: str
    needed: str

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        return f"{self.gate} {verdict}: {self.looked_at} of {self.where} is {self.found}, needed is {self.needed}"


def failed(findings: Iterable[Finding]) -> list[Finding]:
    """Those that did not pass."""
    return [finding for finding in findings if not finding.passed]
