"""A child that outlives its supervisor would serve without anybody to restart or stop it.

Rules:
1. The supervisor holds the only write end of a pipe; every child holds the read end.
2. The end of that pipe means that the supervisor is gone, and the child ends at once, even if its loop hangs.
"""

from __future__ import annotations

import os
import threading


def hold(read_end: int) -> None:
    """Ends this process as soon as the supervisor, which holds the other end of the pipe, is gone."""

    def watch() -> None:
        while os.read(read_end, 1):
            continue
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
