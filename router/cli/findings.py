"""What `doctor` finds.

Rules:
1. `failed` keeps a router from working, `warning` will hurt some day, `skipped` does not apply here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and how to mend it (empty where it is well)."""

    check: str
    state: State
    found: str
    remedy: str = ""
