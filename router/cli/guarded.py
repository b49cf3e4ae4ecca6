"""Runs a command that must not outlive who asked for it: `python -m router.cli.guarded FD COMMAND …`.

Rules:
1. FD is the read end of a pipe whose write end the asking process alone holds. Its end, however that process died,
   ends the command: SIGTERM to it, so that it can end its own children in order; SIGTERM to whatever of its process
   group is left then, or after ten seconds; and SIGKILL half a second later.
2. SIGTERM to the guard does the same; SIGINT is for the asking process to interpret.
3. Its exit code is the command's.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from router.clock import SystemClock

GRACE = 10.0
LAST_WORD = 0.5
_POLL = 0.02
_CLOCK = SystemClock()


def main(arguments: Sequence[str]) -> int:
    """Runs the command until it ends or has to; returns its exit code."""
    lifeline, command = int(arguments[0]), list(arguments[1:])
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for sig in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(sig, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready or signal.SIGTERM in os.read(woken, 64):
            return _end(child)
    return child.returncode


def _end(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    code = _wait(child)
    _signal_group(child, signal.SIGTERM)
    deadline = _CLOCK.monotonic() + LAST_WORD
    while _signal_group(child, 0) and _CLOCK.monotonic() < deadline:
        time.sleep(_POLL)
    _signal_group(child, signal.SIGKILL)
    child.wait()
    return code


def _wait(child: subprocess.Popen[bytes]) -> int:
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def _signal_group(child: subprocess.Popen[bytes], sig: int) -> bool:
    """Whether there was anybody to send it to."""
    try:
        os.killpg(child.pid, sig)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
