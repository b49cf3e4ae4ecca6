"""Predictions to the bytes that MLflow's scoring server sends.

Rules:
1. The same text, to the last digit and space, for whatever a model returns.
2. Plain arrays and frames of plain columns are turned into lists at once; all else goes MLflow's way.
"""

from __future__ import annotations

import json
from typing import Any

_PLAIN = frozenset("biuf")


class Writer:
    """Writes what a model returned; made once, since it imports MLflow."""

    def __init__(self) -> None:
        import numpy as np
        import pandas as pd
        from mlflow.utils.proto_json_utils import NumpyEncoder, _get_jsonable_obj

        self._array, self._frame, self._series = np.ndarray, pd.DataFrame, pd.Series
        self._dtype = np.dtype
        self._encoder, self._otherwise = NumpyEncoder, _get_jsonable_obj

    def body(self, raw: Any, key: str = "predictions") -> bytes:
        """The body of a scoring response. Raises whatever the model's objects raise."""
        if isinstance(raw, self._array) and raw.dtype.kind in _PLAIN:
            return json.dumps({key: raw.tolist()}).encode()
        return json.dumps({key: self.plain(raw)}, cls=self._encoder).encode()

    def plain(self, raw: Any) -> Any:
        """`raw` as lists and dictionaries, as far as it goes."""
        if isinstance(raw, self._frame) and self._simple(raw):
            names = list(raw.columns)
            return [
                dict(zip(names, row, strict=True)) for row in zip(*(raw[name].tolist() for name in names), strict=True)
            ]
        if isinstance(raw, self._series) and self._numeric(raw.dtype) and isinstance(raw.name, str):
            return [{raw.name: value} for value in raw.tolist()]
        return self._otherwise(raw, pandas_orient="records")

    def _simple(self, frame: Any) -> bool:
        names = list(frame.columns)
        unique = bool(names) and len(set(names)) == len(names) and all(isinstance(name, str) for name in names)
        return unique and all(self._numeric(dtype) for dtype in frame.dtypes)

    def _numeric(self, dtype: Any) -> bool:
        """Not an extension type of pandas', whose missing values are objects."""
        return isinstance(dtype, self._dtype) and dtype.kind in _PLAIN

    def rows(self, raw: Any) -> int:
        """How many rows `raw` has; -1 where it has none to tell apart."""
        if isinstance(raw, (self._frame, self._series, list)):
            return len(raw)
        return len(raw) if isinstance(raw, self._array) and raw.ndim else -1

    def part(self, raw: Any, start: int, stop: int) -> Any:
        """Rows `start` to `stop` of `raw`."""
        return raw.iloc[start:stop] if isinstance(raw, (self._frame, self._series)) else raw[start:stop]
