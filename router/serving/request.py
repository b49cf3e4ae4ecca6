"""A whole request, as the protocols of a model's server see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Request(NamedTuple):
    """Method, path, headers by lower-case name, and body."""

    method: bytes
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
