"""Shows a text again and again, as it changes.

Rules:
1. On a terminal it stays in place, cut to the window; elsewhere each change is printed whole, after the time.
2. Interrupting it is how it ends, and no failure.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import click

from router.clock import Clock, SystemClock


def follow(read: Callable[[], str], every: float, out: TextIO, clock: Clock | None = None) -> None:
    """Shows what `read` says every `every` seconds, until interrupted.

    Raises:
        RouterError: what `read` raises.
    """
    try:
        asyncio.run(_follow(read, every, out, clock or SystemClock()))
    except KeyboardInterrupt:
        return


async def _follow(read: Callable[[], str], every: float, out: TextIO, clock: Clock) -> None:
    before = ""
    while True:
        text = await asyncio.to_thread(read)
        if out.isatty():
            _in_place(text, out)
        elif text != before:
            click.echo(f"{datetime.fromtimestamp(clock.wall(), UTC):%Y-%m-%dT%H:%M:%SZ}\n{text}", file=out)
        before = text
        await clock.sleep(every)


def _in_place(text: str, out: TextIO) -> None:
    """Home, each line over what was there, and nothing below: without the flicker of a cleared window."""
    columns, lines = os.get_terminal_size(out.fileno())
    shown = [_cut(line, columns) for line in text.splitlines()[: max(1, lines - 1)]]
    if os.environ.get("NO_COLOR"):
        shown = [click.unstyle(line) for line in shown]
    out.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J")
    out.flush()


def _cut(line: str, columns: int) -> str:
    return line if len(click.unstyle(line)) <= columns else click.unstyle(line)[: max(1, columns - 1)] + "…"
