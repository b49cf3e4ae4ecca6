"""The pyfunc server: loads one model, warms it up, serves it on a Unix socket.

Rules:
1. A model that cannot be loaded ends the process with exit code 3, one JSON line on standard error, and the same JSON
   beside the socket (`spec.fault_of`), for whoever has to say why the version is not ready.
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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from router import lifeline
from router.errors import OperatorError
from router.logs import OneLine
from router.serving import spec
from router.serving.printed import Capture

CANNOT_LOAD = 3


def main(arguments: Sequence[str]) -> int:
    """Serves until SIGTERM; returns the exit code."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if asked.lifeline is not None:
        lifeline.hold(asked.lifeline)
    asked.socket, asked.model = asked.socket.absolute(), asked.model.absolute()
    spec.fault_of(asked.socket).unlink(missing_ok=True)
    capture = Capture(f"{asked.name}/{asked.version}")
    _log_to(capture.real, f"pyfunc-{asked.name}/{asked.version}")
    capture.begin()
    try:
        _serve(asked)
    except OperatorError as error:
        capture.end()
        _tell(asked, error, capture.real)
        return CANNOT_LOAD
    capture.end()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m router.serving")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="directory that holds the MLmodel")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--batch-rows", type=int, default=spec.BATCH_ROWS, help="1: requests are predicted one by one")
    parser.add_argument("--lifeline", type=int)
    return parser


def _serve(asked: argparse.Namespace) -> None:
    _enter_scratch(asked.socket)
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    # Imported late: a wrong argument is told without the seconds that MLflow takes.
    from mlflow.version import VERSION

    from router.serving import model, server
    from router.serving.scoring import Scorer

    loaded = model.load(asked.model)
    scorer = Scorer(loaded)
    example = model.warm_up(loaded, scorer, asked.model)
    options = server.Options(asked.batch_rows, asked.version, VERSION)
    server.serve(asked.socket, server.service_of(scorer, example, options))


def _enter_scratch(socket: Path) -> None:
    scratch = spec.scratch_of(socket)
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(scratch)


def _log_to(stream: TextIO, process: str) -> None:
    """What the router's own modules log goes to `stream`; what others log is the model's, and is captured."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(process))
    ours = logging.getLogger("router")
    ours.handlers[:] = [handler]
    ours.propagate = False
    ours.setLevel(logging.INFO)


def _tell(asked: argparse.Namespace, error: OperatorError, stream: TextIO) -> None:
    line = json.dumps({"error": error.message, "hint": error.hint, "model": asked.name, "version": asked.version})
    stream.write(line + "\n")
    spec.fault_of(asked.socket).write_text(line, encoding="utf-8")


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # A prediction that never ends would keep its thread, and with it the process, for ever.
    os._exit(code)
