"""Log lines: one event each."""

from __future__ import annotations

import logging
import re

from router.logs import OneLine


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    details = (type(error), error, None) if error is not None else None
    made = logging.LogRecord("router.x", logging.WARNING, __file__, 1, message, None, details)
    made.created, made.msecs = 0.25, 250.0
    return made


def test_a_line_has_time_level_process_and_message() -> None:
    line = OneLine("supervisor").format(record("worker-0 runs"))
    assert re.fullmatch(r"1970-01-01T00:00:00\.250Z WARNING supervisor\[\d+\] worker-0 runs", line)


def test_a_message_cannot_forge_a_second_line() -> None:
    line = OneLine("control").format(record("model 'a\nb\rc'"))
    assert line.endswith(r"model 'a\nb\rc'")
    assert "\n" not in line


def test_a_traceback_is_indented() -> None:
    first, *rest = OneLine("control").format(record("it broke", ValueError("one\ntwo"))).splitlines()
    assert first.endswith("it broke")
    assert rest
    assert all(line.startswith("  ") for line in rest)
