"""Tensors of the Open Inference Protocol: from a request's JSON or bytes to arrays, and from predictions back.

Rules:
1. Types are the protocol's; BYTES are text in UTF-8, in bytes each with its length before it in four.
2. Shape and data must agree exactly; what does not is a `TensorError`, whose words repeat no data.
"""

from __future__ import annotations

import datetime
import json
import math
import struct
from typing import Any

_LENGTH = struct.Struct("<I")
NUMPY = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
PROTOCOL = {name: kind for kind, name in NUMPY.items()}


class TensorError(ValueError):
    """A tensor is not what it says it is; the message is for the client."""


def array_of(name: str, kind: str, shape: list[int], data: list[Any] | bytes) -> Any:
    """The array of one input.

    Raises:
        TensorError: type, shape and data do not fit each other.
    """
    import numpy as np

    count = math.prod(shape)
    try:
        if kind == "BYTES":
            texts = _texts(data) if isinstance(data, bytes) else _flat(data)
            if not all(isinstance(text, str) for text in texts):
                raise TensorError(f"input {name}: BYTES must be text")
            flat = np.array(texts, dtype=object)
        elif kind in NUMPY:
            flat = _numbers(kind, data)
        else:
            raise TensorError(f"input {name}: there is no datatype of this name")
    except (ValueError, TypeError, OverflowError, struct.error) as fault:
        raise fault if isinstance(fault, TensorError) else TensorError(f"input {name}: data is not {kind}") from fault
    if flat.size != count or flat.ndim != 1:
        raise TensorError(f"input {name}: {flat.size} elements do not make the shape {shape}")
    return flat.reshape(shape)


def _numbers(kind: str, data: list[Any] | bytes) -> Any:
    import numpy as np

    if isinstance(data, bytes):
        return np.frombuffer(data, np.dtype(NUMPY[kind]).newbyteorder("<")).astype(NUMPY[kind])
    flat = np.array(_flat(data))
    # A request without elements has no type that could be wrong.
    fits = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[np.dtype(NUMPY[kind]).kind]
    if flat.size and flat.dtype.kind not in fits:
        raise TypeError(kind)
    cast = flat.astype(NUMPY[kind])
    if cast.dtype.kind in "iu" and not np.array_equal(cast, flat):
        raise OverflowError(kind)
    return cast


def _flat(data: list[Any]) -> list[Any]:
    """The protocol allows nested lists as well as flat ones."""
    while data and isinstance(data[0], list):
        if not all(isinstance(inner, list) for inner in data):
            raise TypeError
        data = [value for inner in data for value in inner]
    return data


def _texts(data: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise TypeError
        texts.append(data[at : at + length].decode())
        at += length
    return texts


def outputs_of(raw: Any, names: list[str]) -> dict[str, Any]:
    """What a model returned, as arrays by output name; `names` are those of its signature, where it has them."""
    import numpy as np
    import pandas as pd

    if isinstance(raw, pd.DataFrame):
        return {str(name): _plain(raw[name].to_numpy()) for name in raw.columns}
    if isinstance(raw, dict):
        return {str(name): _plain(np.asarray(value)) for name, value in raw.items()}
    name = names[0] if len(names) == 1 else "predictions"
    if isinstance(raw, pd.Series):
        return {str(raw.name or name): _plain(raw.to_numpy())}
    if isinstance(raw, list) and any(isinstance(value, (list, dict)) for value in raw):
        return {name: _plain(_objects(raw))}
    return {name: _plain(np.atleast_1d(np.asarray(raw)))}


def _objects(values: list[Any]) -> Any:
    import numpy as np

    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array


def _plain(array: Any) -> Any:
    """`array` itself where the protocol has its type; otherwise texts: JSON, of what is not text already."""
    if str(array.dtype) in PROTOCOL:
        return array
    import numpy as np

    texts = np.empty(array.shape, dtype=object)
    for at in np.ndindex(array.shape):
        texts[at] = _text(array[at])
    return texts


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "dtype") and value.dtype.kind == "M":
        return str(value)
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return value.isoformat()
    return json.dumps(value.item() if hasattr(value, "item") else value)


def bytes_of(array: Any) -> bytes:
    """An output's data as bytes."""
    if array.dtype != object:
        return bytes(array.astype(array.dtype.newbyteorder("<")).tobytes())
    encoded = [text.encode() for text in array.ravel().tolist()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in encoded)
