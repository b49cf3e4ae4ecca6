"""Whether a model server's rejection is a model's exception in disguise.

Rules:
1. MLflow answers 400 with a stack trace where a model raised: that is the version's failure, not the caller's, and the
   trace must not leave the router.
2. It is found however the JSON is spelt or compressed; what is too long to be held is searched as it passes.
"""

from __future__ import annotations

import json
import re
import zlib
from contextlib import suppress

STACK_TRACE = b'"stack_trace"'
"""What tells MLflow's report of an exception inside a model from a rejection, where it is a key."""

_KEY = re.compile(STACK_TRACE + rb"\s*(:|\Z)")
_MAX_BLANK = 1024

HELD_EXCEPTION = 64 * 1024
"""So much of a rejection is held back until it is told which of the two it is."""

MAX_INFLATED = 1024 * 1024


def reports_exception(body: bytes) -> bool:
    """Whether a JSON body is MLflow's report of an exception, however it is spelt or compressed."""
    with suppress(zlib.error):
        # 32: gzip or zlib, told apart by their heads; what is neither raises.
        body = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS).decompress(body, MAX_INFLATED)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return has_key(body)
    return isinstance(found, dict) and "stack_trace" in found


def has_key(body: bytes) -> bool:
    """Whether JSON, perhaps cut off, has a key that says `stack_trace`; a value that says so is none."""
    return any(key.group(1) for key in _KEY.finditer(body))


def scan(window: bytes, data: bytes) -> tuple[bool, bytes]:
    """Whether a rejection that passes in pieces shows a stack trace, and what to hand in with the next piece."""
    window += data
    for found in _KEY.finditer(window):
        if found.group(1) or len(window) - found.start() > _MAX_BLANK:
            return True, b""
        return False, window[found.start() :]
    return False, window[1 - len(STACK_TRACE) :]
