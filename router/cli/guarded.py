"""Runs a command that must not outlive who asked for it: `python -m router.cli.guarded FD COMMAND …`.

Rules:
1. FD is the read end of a pipe whose write end the asking process alone holds. Its end, however that process died,
   ends the command: SIGTERM to its whole process group, and SIGKILL after ten seconds.
2. SIGTERM to the guard does the same; SIGINT is for the asking process to interpret.
3. Its exit code is the command's.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence

GRACE = 10.0


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
    _signal_group(child, signal.SIGTERM)
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
    finally:
        # Whatever of the group is left did not heed the first signal.
        _signal_group(child, signal.SIGKILL)
        child.wait()


def _signal_group(child: subprocess.Popen[bytes], sig: signal.Signals) -> None:
    try:
        os.killpg(child.pid, sig)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
