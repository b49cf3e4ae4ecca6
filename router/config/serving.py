"""How a loaded version is to be served: what a config says of it, as the process that serves it is told.

Rules:
1. Plain values: control compares them, the command line carries them.
2. What is not asked for is off: one process, requests predicted one by one, the router's own libraries, no limit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Serving:
    """`max_rows` 1: no batching. `max_delay` in seconds. `memory` in bytes, 0 for no limit."""

    max_rows: int = 1
    max_delay: float = 0.0
    processes: int = 1
    isolated: bool = False
    memory: int = 0

    def key_for(self, version: str) -> str:
        """The key of a server of the version with that key, and no longer: it is part of a socket's path."""
        if self == AS_USUAL:
            return version
        return hashlib.sha256(f"{version} {self!r}".encode()).hexdigest()[: len(version)]


AS_USUAL = Serving()


@dataclass(frozen=True, slots=True)
class Launch:
    """One server to start: where it listens, the directory of its model, names for its log lines, and how to serve.

    `python` is the interpreter of an environment of the model's own, None for the router's.
    """

    socket: Path
    directory: Path
    model: str
    version: str
    serving: Serving = AS_USUAL
    python: Path | None = None
