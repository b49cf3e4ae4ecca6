"""What a checker says against a text."""

from __future__ import annotations

from collections.abc import Callable


def refusal(check: Callable[[str], object], text: str) -> str:
    """The message that `check` refuses `text` with; empty where it takes it. Anything but ValueError gets through."""
    try:
        check(text)
    except ValueError as error:
        return str(error)
    return ""
