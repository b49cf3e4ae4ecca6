"""How much one client, one endpoint and one worker may take.

Rules:
1. Every limit has an answer: what is over it is told so, never dropped in silence.
2. Sizes in bytes, times in seconds.
"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """The limits of a worker."""

    head: int = 32 * 1024
    head_lines: int = 100
    url: int = 8 * 1024
    pipelined: int = 32
    head_time: float = 10.0
    body_idle: float = 15.0
    keep_alive: float = 75.0
    unread: float = 30.0
    linger: float = 2.0
    in_flight: int = 8192
    in_flight_per_endpoint: int = 1024
    held_bodies: int = 64 * 1024 * 1024
    write_buffer: int = 256 * 1024
