"""What every page is made from.

Rules:
1. Reads only, and on the event loop: one page shows one moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from router.control.service import Control
from router.control.totals import Series
from router.web.dashboard.changes import Changes
from router.web.dashboard.figures import Figures, History


@dataclass(slots=True)
class Context:
    """`control`, what was counted before, and who changed what last. `registry` is its URL, for people."""

    control: Control
    changes: Changes
    registry: str = ""
    history: History = field(default_factory=History)

    def figures(self, series: Iterable[Series], window: float | None) -> Figures:
        """What `series` got in the last `window` seconds; None is since control started."""
        totals = self.control.totals
        return self.history.figures(totals.tallies, series, window, self.control.clock.monotonic())
