"""What a model prints, kept apart from what the router logs.

Rules:
1. Each line that model code writes to standard output or standard error becomes one line of the router's log, named
   after the model and capped in length; control characters are escaped, so no printed line can pass for another.
2. Only so many a second: a client can make a model print. What is left out is counted, and the count is logged.
3. The process's own words go to the real standard error, also while the model is silent or broken.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

LONGEST = 500
PER_SECOND = 20
_CHUNK = 65536
_LAST_WORDS = 2.0


class Printed:
    """Lines of a stream to lines of a log; `say` writes one, `now` is in seconds."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], float]) -> None:
        self._say = say
        self._now = now
        self._second = now()
        self._said = 0
        self._left_out = 0

    def pump(self, chunks: Iterator[bytes]) -> None:
        """Says every line in `chunks` until they end."""
        rest = b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._line(line)
            # A line that never ends is cut, so that it cannot fill the memory.
            rest = rest[: LONGEST * 4]
        if rest:
            self._line(rest)
        self._tell()

    def _line(self, line: bytes) -> None:
        now = self._now()
        if now - self._second >= 1:
            self._tell()
            self._second, self._said = now, 0
        if self._said >= PER_SECOND:
            self._left_out += 1
            return
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        if text:
            self._said += 1
            self._say(_plain(text))

    def _tell(self) -> None:
        if self._left_out:
            self._say(f"({self._left_out} more lines were printed, and left out here)")
            self._left_out = 0


def _plain(text: str) -> str:
    cut = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


class Capture:
    """From `begin` to `end`, the descriptors 1 and 2 are a pipe whose lines are prefixed with `name`.

    `real` is the standard error of before: what the process itself has to say goes there.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._own = os.dup(2)
        self.real: TextIO = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._reader: int = -1
        self._thread = threading.Thread(target=self._pump, name="printed", daemon=True)

    def begin(self) -> None:
        """Takes the descriptors over."""
        self._reader, writer = os.pipe()
        for descriptor in (1, 2):
            os.dup2(writer, descriptor)
        os.close(writer)
        faulthandler.enable(self.real)
        self._thread.start()

    def forked(self) -> None:
        """To be called in a forked process: lines go to the parent, which prefixes them, and `real` is its own."""
        # The parent's thread may have held the old one's lock at the moment of the fork.
        self.real = os.fdopen(os.dup(self._own), "w", encoding="utf-8", errors="backslashreplace", buffering=1)

    def end(self) -> None:
        """Gives them back, and says what is still in the pipe."""
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(self.real.fileno(), descriptor)
        self._thread.join(_LAST_WORDS)

    def _pump(self) -> None:
        Printed(self._say, time.monotonic).pump(iter(lambda: os.read(self._reader, _CHUNK), b""))

    def _say(self, line: str) -> None:
        self.real.write(f"{self._name} printed: {line}\n")
