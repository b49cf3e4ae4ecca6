"""Rows of named columns, from JSON straight to a data frame.

Rules:
1. For signatures whose columns are named, required and of plain types. A request must have exactly these columns; in
   `dataframe_split` in the signature's order; and only values of their types. All else is MLflow's to read or refuse.
2. The frame is the one that MLflow's parsing and enforcement make: types, index, and the layout in memory, on which
   the last bits of a sum may depend.
3. Where it is proven that a model does not look at names (`proof`), it is given the array inside that frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from router.serving.pieces import MOST_ROWS, VARIED, Piece

_LONG = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_INTEGER = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
# Type of the signature: how it is decoded, its numpy type, values that show how MLflow reads it.
_TYPES: dict[str, tuple[Any, str | None, tuple[Any, ...]]] = {
    "double": (float, "float64", (1.5, -2, 3e300)),
    "float": (float, "float32", (0.1, -2, 3e30)),
    "long": (_LONG, "int64", (1, -2, 2**62)),
    "integer": (_INTEGER, "int32", (1, -2, 2**30)),
    "boolean": (bool, "bool", (True, False, True)),
    "string": (str, None, ("a", "é", "")),
}
_FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_BACKSLASH_NUL = b"\\u0000"


def columns_of(schema: Any) -> Columns | None:
    """A reader for `schema`, or None where it has columns of other kinds."""
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    kinds = [(spec.name, getattr(spec.type, "name", ""), spec.required) for spec in schema.inputs]
    names = [name for name, _, _ in kinds]
    plain = all(isinstance(name, str) and name.isprintable() and not set(name) & set('"\\') for name in names)
    if not plain or len(set(names)) < len(names) or not all(kind in _TYPES and needed for _, kind, needed in kinds):
        return None
    return Columns([(name, kind) for name, kind, _ in kinds])


class Columns:
    """See the module. A piece's data is a list of tuples, one per row, in the order of the signature."""

    joins = True

    def __init__(self, kinds: Sequence[tuple[str, str]]) -> None:
        import numpy as np
        import pandas as pd

        self._np, self._pd = np, pd
        self._names = [name for name, _ in kinds]
        self._index = pd.Index(self._names)
        self._types = [_TYPES[kind] for _, kind in kinds]
        self._dtypes = [dtype for _, dtype, _ in self._types]
        self._uniform = self._dtypes[0] if len(set(self._dtypes)) == 1 else None
        self._texts = None in self._dtypes
        self.bare = False
        self._body = msgspec.json.Decoder(self._body_type())
        self._forms = set(self.samples())

    def _body_type(self) -> Any:
        decoded = [kind for kind, _, _ in self._types]
        fields = [f"c{number}" for number in range(len(decoded))]
        rename = dict(zip(fields, self._names, strict=True))
        row = msgspec.defstruct(
            "Row", list(zip(fields, decoded, strict=True)), forbid_unknown_fields=True, rename=rename
        )
        lists = [(field, list[kind]) for field, kind in zip(fields, decoded, strict=True)]  # type: ignore[valid-type] # made at run time
        columns = msgspec.defstruct("Columns", lists, forbid_unknown_fields=True, rename=rename)
        data = list[tuple[tuple(decoded)]]  # type: ignore[misc,valid-type] # the same
        split = msgspec.defstruct("Split", [("columns", list[str]), ("data", data)], forbid_unknown_fields=True)
        either = list[row] | columns | UnsetType  # type: ignore[valid-type] # the same
        forms = [
            ("dataframe_split", split | UnsetType, UNSET),
            ("dataframe_records", list[row] | UnsetType, UNSET),  # type: ignore[valid-type] # the same
            ("inputs", either, UNSET),
            ("instances", either, UNSET),
        ]
        return msgspec.defstruct("Body", forms, forbid_unknown_fields=True)

    def read(self, body: bytes) -> Piece | None:
        """See `Reader`."""
        if self._texts and _BACKSLASH_NUL in body:
            # numpy's strings lose a NUL at their end, pandas' do not.
            return None
        try:
            found = self._body.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None
        given = [(name, value) for name in _FORMS if (value := getattr(found, name)) is not UNSET]
        return self._rows(*given[0]) if len(given) == 1 else None

    def _rows(self, form: str, value: Any) -> Piece | None:
        if form == "dataframe_split":
            rows = value.data if value.columns == self._names else []
        elif isinstance(value, list):
            rows = [msgspec.structs.astuple(row) for row in value]
        else:
            form += " by column"
            columns = msgspec.structs.astuple(value)
            rows = list(zip(*columns, strict=True)) if len({len(column) for column in columns}) == 1 else []
        return Piece("columns", len(rows), rows) if rows and form in self._forms else None

    def of_tensors(self, tensors: Mapping[str, Any]) -> Piece | None:
        """See `Reader`: one array per column, each of the column's own type."""
        if set(tensors) != set(self._names) or "inputs by column" not in self._forms:
            return None
        arrays = [tensors[name] for name in self._names]
        rows = arrays[0].shape[0]
        if not rows or any(array.shape not in ((rows,), (rows, 1)) for array in arrays):
            return None
        if any(array.dtype != dtype for array, dtype in zip(arrays, self._dtypes, strict=True)):
            return None
        return Piece("columns", rows, list(zip(*(array.reshape(-1).tolist() for array in arrays), strict=True)))

    def join(self, pieces: Sequence[Piece]) -> Any:
        """See `Reader`: a data frame."""
        rows = pieces[0].data if len(pieces) == 1 else [row for piece in pieces for row in piece.data]
        if self._uniform is not None:
            # MLflow's frame holds one block with a row per column.
            block = self._np.ascontiguousarray(self._np.array(rows, self._uniform).T)
            return block.T if self.bare else self._pd.DataFrame(block.T, columns=self._index, copy=False)
        columns = zip(*rows, strict=True)
        return self._pd.DataFrame(
            {
                name: list(column) if dtype is None else self._np.array(column, dtype)
                for name, dtype, column in zip(self._names, self._dtypes, columns, strict=True)
            }
        )

    @property
    def may_be_bare(self) -> bool:
        """Whether all columns are numbers of one type, so that the rows could be given without names."""
        return self._uniform is not None and self._np.dtype(self._uniform).kind == "f"

    def samples(self) -> dict[str, list[bytes]]:
        """See `Reader`."""
        rows = [[values[number] for _, _, values in self._types] for number in range(3)]
        several: dict[str, list[bytes]] = {}
        for some in (rows, rows[:1], rows[1:2]):
            records = [dict(zip(self._names, row, strict=True)) for row in some]
            columns = {name: [row[at] for row in some] for at, name in enumerate(self._names)}
            forms: dict[str, object] = {
                "dataframe_split": {"columns": self._names, "data": some},
                "dataframe_records": records,
                "inputs": records,
                "instances": records,
                "inputs by column": columns,
                "instances by column": columns,
            }
            for form, value in forms.items():
                several.setdefault(form, []).append(json.dumps({form.split()[0]: value}).encode())
        return several

    def keep(self, forms: set[str]) -> None:
        """See `Reader`."""
        self._forms &= forms

    def apart(self, piece: Piece) -> list[Piece]:
        """See `Reader`."""
        varied = [
            tuple(value * factor if isinstance(value, float) else value for value in row)
            for row in piece.data[:MOST_ROWS]
            for factor in VARIED
        ]
        return [Piece(piece.key, 1, [row]) for row in dict.fromkeys(varied)]
