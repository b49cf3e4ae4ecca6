"""How every process of the router logs: plain lines on stderr.

Rules:
1. One event, one line: a line break inside a message is written as `\\n`, so nobody can forge a line.
2. A line is `time level process[pid] message`, the time in UTC with milliseconds.
3. A traceback, where there is one, follows its line, indented.
"""

from __future__ import annotations

import logging
import sys
import time


class OneLine(logging.Formatter):
    """Formats by rules 1 to 3."""

    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {process}[%(process)d] %(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def converter(self, timestamp: float | None) -> time.struct_time:
        """See `logging.Formatter.converter`."""
        return time.gmtime(timestamp)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """See `logging.Formatter.formatMessage`."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name is logging's
        """See `logging.Formatter.formatException`."""
        return "  " + super().formatException(ei).replace("\n", "\n  ")  # type: ignore[arg-type] # logging's own union


def set_up(process: str, level: int = logging.INFO) -> None:
    """Sends what this process logs to stderr; `process` is its name in each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
