"""The pyfunc server: loads one model, forks the processes that serve it on a Unix socket.

Rules:
1. Three generations: the guard, which runs no code of the model (`guard`); the parent, which loads it and predicts
   nothing (`forks`); the processes that serve (`server`). Each ends with the one above it.
2. The working directory is scratch, beside the socket.
3. It ends with its supervisor: `--lifeline FD`.
4. What model code prints is told apart from what this process says (`printed`).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from router.errors import OperatorError
from router.logs import OneLine
from router.serving import spec
from router.serving.doorway import Doorway
from router.serving.guard import CANNOT_LOAD, Guard, Tell
from router.serving.printed import Capture

_INNER = "inner"


def main(arguments: Sequence[str]) -> int:
    """Serves until SIGTERM; returns the exit code."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked.socket, asked.model = asked.socket.absolute(), asked.model.absolute()
    _log_to(sys.stderr, f"pyfunc-{asked.name}/{asked.version}")
    labels = {"model": asked.name, "version": asked.version}
    try:
        return Guard(asked.socket, asked.model, labels, lambda sock, tell: _load(asked, sock, tell)).run(asked.lifeline)
    except OperatorError as error:
        sys.stderr.write(json.dumps({"error": error.message, "hint": error.hint, **labels}) + "\n")
        return CANNOT_LOAD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m router.serving")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="directory that holds the MLmodel")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--batch-rows", type=int, default=1, help="1: requests are predicted one by one")
    parser.add_argument("--batch-delay", type=float, default=0.0, help="seconds")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--memory", type=int, default=0, help="bytes for predictions in each process; 0: no limit")
    parser.add_argument("--lifeline", type=int)
    return parser


def _load(asked: argparse.Namespace, sock: socket.socket, tell: Tell) -> int:
    """What the parent does: loads, forks, and minds."""
    capture = Capture(f"{asked.name}/{asked.version}")
    process = f"pyfunc-{asked.name}/{asked.version}"
    _log_to(capture.real, process)
    capture.begin()
    try:
        os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
        # Imported late: the guard has none of this, and a wrong argument is told without the seconds that MLflow takes.
        from mlflow.version import VERSION

        from router.serving import forks, model, server
        from router.serving.board import Board
        from router.serving.proof import reader_for
        from router.serving.scoring import Scorer

        code = model.load(asked.model)
        scorer = Scorer(code)
        options = server.Options(asked.batch_rows, asked.batch_delay, asked.memory, asked.version, VERSION)
        loaded = server.Loaded(scorer, reader_for(scorer), model.example_of(code, asked.model), options)
        # Its own path may be too long for a socket.
        scratch = os.open(spec.scratch_of(asked.socket), os.O_PATH | os.O_DIRECTORY)
        inner = Path(f"/proc/self/fd/{scratch}") / _INNER
        door = Doorway(inner)
        door.open()

        def work(place: forks.Place) -> None:
            capture.forked()
            _log_to(capture.real, process)
            server.serve(loaded, [sock, door.socket], inner, place)

        # As many again may be about to leave.
        return forks.Forks(asked.processes, Board(2 * asked.processes), work, tell).run()
    finally:
        capture.end()


def _log_to(stream: TextIO, process: str) -> None:
    """What the router's own modules log goes to `stream`; what others log is the model's, and is captured."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(process))
    ours = logging.getLogger("router")
    ours.handlers[:] = [handler]
    ours.propagate = False
    ours.setLevel(logging.INFO)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
