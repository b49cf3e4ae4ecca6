"""Whether a model server's rejection is a model's exception in disguise.

Rules:
1. MLflow answers 400 with a stack trace where a model raised: that is the version's failure, not the caller's, and the
   trace must not leave the router.
2. It is found however the JSON is spelt or compressed; what is too long to be held is searched as it passes.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress

STACK_TRACE = b'"stack_trace"'
"""What tells MLflow's report of an exception inside a model from a rejection."""

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
        return STACK_TRACE in body
    return isinstance(found, dict) and "stack_trace" in found


def scan(window: bytes, data: bytes) -> tuple[bool, bytes]:
    """Whether a rejection that passes in pieces shows a stack trace, and what to hand in with the next piece."""
    window += data
    return STACK_TRACE in window, window[1 - len(STACK_TRACE) :]
