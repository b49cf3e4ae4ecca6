"""Stands in for control, workers and model servers where only the supervisor is of interest.

Rules:
1. `--role` names it in the file DUMMY_LOG, where it writes one line per event: `ROLE started PID`, `ROLE term`,
   `ROLE draining` at SIGUSR1.
2. Whoever connects to one of its `--listen` sockets is told its pid.
3. `--fail` makes it exit 7 at once; `--stubborn` makes it ignore SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import sys
from pathlib import Path

from router.lifeline import hold


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--index", default="")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--stubborn", action="store_true")
    options, _ = parser.parse_known_args()
    hold(options.lifeline)
    role = options.role + options.index
    if options.fail:
        sys.exit(7)

    def term(*_: object) -> None:
        note(f"{role} term")
        if not options.stubborn:
            sys.exit(0)

    signal.signal(signal.SIGTERM, term)
    signal.signal(signal.SIGUSR1, lambda *_: note(f"{role} draining"))
    note(f"{role} started {os.getpid()}")
    serve([int(value.rpartition("=")[2]) for value in options.listen])


def note(line: str) -> None:
    """Appends `line` to the log of events."""
    with Path(os.environ["DUMMY_LOG"]).open("a") as log:
        log.write(line + "\n")


def serve(descriptors: list[int]) -> None:
    """Answers connections for ever."""
    selector = selectors.DefaultSelector()
    for descriptor in descriptors:
        selector.register(socket.socket(fileno=descriptor), selectors.EVENT_READ)
    while not descriptors:
        signal.pause()
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            try:
                connection, _ = key.fileobj.accept()
            except BlockingIOError:
                continue
            with connection:
                connection.sendall(str(os.getpid()).encode())


if __name__ == "__main__":
    main()
