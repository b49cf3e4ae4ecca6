"""Input that was read without MLflow, and what may be predicted together.

Rules:
1. A reader takes only input for which what it makes is proven equal to what MLflow makes (`proof`); for anything else
   it says None, and MLflow reads the request.
2. Pieces with equal keys come from one reader and may be joined; joining keeps the order of rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Piece(NamedTuple):
    """Rows of one request. What `data` is, its reader knows."""

    key: Hashable
    rows: int
    data: Any


class Reader(Protocol):
    """Bodies of the scoring protocol to pieces, pieces to what the model's code is given."""

    @property
    def joins(self) -> bool:
        """Whether several pieces can be one input of the model."""
        ...

    def read(self, body: bytes) -> Piece | None:
        """The rows in a JSON body; None where MLflow has to read it."""
        ...

    def of_tensors(self, tensors: Mapping[str, Any]) -> Piece | None:
        """The rows of arrays by name; None where MLflow has to cast or refuse them."""
        ...

    def join(self, pieces: Sequence[Piece]) -> Any:
        """One input of the model, with the rows of `pieces` in their order."""
        ...

    def samples(self) -> dict[str, list[bytes]]:
        """For every form it reads, bodies that show whether MLflow reads the same."""
        ...

    def keep(self, forms: set[str]) -> None:
        """From now on reads these forms only."""
        ...

    def apart(self, piece: Piece) -> list[Piece]:
        """The rows of `piece`, each as a piece, and variations of them that differ from each other."""
        ...


VARIED = (1.0, 1.25, 0.5)
"""Factors for floats: rows that are all the same would hide that a model looks at more than one of them."""
MOST_ROWS = 4
"""So many rows of an example are taken apart."""
