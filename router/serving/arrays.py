"""Rows of numbers without names, from JSON straight to an array.

Rules:
1. For signatures of one unnamed numeric tensor, and for models without a signature that are sent a list of equally
   long lists of numbers. All else is MLflow's to read or refuse.
2. Without a signature the request decides the type, as with MLflow: all integers, or floats; they never mix in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from router.serving.pieces import MOST_ROWS, VARIED, Piece

_DEEPEST = 6
_FORMS = ("inputs", "instances")
_LONG = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_WHOLE = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_DECODED: dict[str, Any] = {"float64": float, "float32": float, "int64": _LONG, "int32": _WHOLE}
# Arrays of these are what JSON without a signature becomes.
_BARE = ("int64", "float64")


def arrays_of(schema: Any) -> Arrays | None:
    """A reader for `schema`, which is None for a model without a signature; None where it is of another kind."""
    if schema is None:
        return Arrays(None, (-1, -1))
    if not schema.is_tensor_spec() or schema.has_input_names() or len(schema.inputs) != 1:
        return None
    spec = schema.inputs[0]
    if str(spec.type) not in _DECODED or not 1 <= len(spec.shape) <= _DEEPEST:
        return None
    return Arrays(str(spec.type), tuple(spec.shape))


class Arrays:
    """See the module. A piece's data is an array whose first axis is the rows.

    `dtype` is None where the request decides; -1 in `shape` is any length.
    """

    def __init__(self, dtype: str | None, shape: tuple[int, ...]) -> None:
        import numpy as np

        self._np = np
        self._dtype = dtype
        self._shape = shape
        self.joins = shape[0] == -1
        nested = _LONG | float if dtype is None else _DECODED[dtype]
        for _ in shape:
            nested = list[nested]  # type: ignore[valid-type] # made at run time
        fields = [(form, nested | UnsetType, UNSET) for form in _FORMS]
        self._body = msgspec.json.Decoder(msgspec.defstruct("Body", fields, forbid_unknown_fields=True))
        self._forms = set(_FORMS)

    def read(self, body: bytes) -> Piece | None:
        """See `Reader`."""
        try:
            found = self._body.decode(body)
            given = [(form, value) for form in _FORMS if (value := getattr(found, form)) is not UNSET]
            if len(given) != 1 or given[0][0] not in self._forms:
                return None
            return self.piece(self._np.array(given[0][1], self._dtype))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError, OverflowError):
            return None

    def of_tensors(self, tensors: Mapping[str, Any]) -> Piece | None:
        """See `Reader`."""
        return self.piece(next(iter(tensors.values()))) if len(tensors) == 1 and "inputs" in self._forms else None

    def piece(self, array: Any) -> Piece | None:
        """The rows of `array`, where it has the shape and type that the model takes as they are."""
        fits = len(array.shape) == len(self._shape) and 0 not in array.shape
        fits = fits and all(want in (-1, have) for want, have in zip(self._shape, array.shape, strict=True))
        if not fits or str(array.dtype) not in (_BARE if self._dtype is None else (self._dtype,)):
            return None
        return Piece((array.dtype.str, array.shape[1:]), array.shape[0], array)

    def join(self, pieces: Sequence[Piece]) -> Any:
        """See `Reader`: an array."""
        if len(pieces) == 1:
            return pieces[0].data
        return self._np.concatenate([piece.data for piece in pieces])

    def samples(self) -> dict[str, list[bytes]]:
        """See `Reader`."""
        shape = tuple(2 if length == -1 else length for length in self._shape)
        whole = self._np.arange(self._np.prod(shape)).reshape(shape)
        several = [whole] if str(self._dtype).startswith("int") else [whole, whole + 0.1]
        return {form: [msgspec.json.encode({form: one.tolist()}) for one in several] for form in _FORMS}

    def keep(self, forms: set[str]) -> None:
        """See `Reader`."""
        self._forms &= forms

    def apart(self, piece: Piece) -> list[Piece]:
        """See `Reader`."""
        factors = VARIED if piece.data.dtype.kind == "f" else VARIED[:1]
        return [
            Piece(piece.key, 1, piece.data[at : at + 1] * piece.data.dtype.type(factor))
            for at in range(min(piece.rows, MOST_ROWS))
            for factor in factors
        ]
