"""What a scenario found: figures, each against its bound.

Rules:
1. A figure says what it counts and in which unit; its bound is the one that was promised, never one that fits.
2. A scenario holds if all its figures do.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One measured value and the most (or, with `least`, the least) it may be."""

    name: str
    value: float
    bound: float
    unit: str = ""
    least: bool = False

    @property
    def held(self) -> bool:
        """Whether the bound was kept."""
        return self.value >= self.bound if self.least else self.value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.least else "≤"
        mark = "" if self.held else " ✗"
        return f"{self.name} {self.value:.4g}{self.unit} ({sign} {self.bound:.4g}{self.unit}){mark}"


@dataclass
class Verdict:
    """All figures of one scenario, and remarks that have no bound."""

    figures: list[Figure] = field(default_factory=list)
    remarks: dict[str, object] = field(default_factory=dict)

    def at_most(self, name: str, value: float, bound: float, unit: str = "") -> None:
        """`value` must not exceed `bound`."""
        self.figures.append(Figure(name, value, bound, unit))

    def at_least(self, name: str, value: float, bound: float, unit: str = "") -> None:
        """`value` must reach `bound`."""
        self.figures.append(Figure(name, value, bound, unit, least=True))

    @property
    def held(self) -> bool:
        """Whether every bound was kept."""
        return bool(self.figures) and all(figure.held for figure in self.figures)
