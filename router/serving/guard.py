"""The outermost process of a version: owns its socket, starts the one that loads the model, says what became of it.

Rules:
1. It runs no code of the model and imports next to nothing: where the router is root, it alone stays root.
2. The socket appears once the model can predict, and goes with it.
3. What cannot be served ends it with `CANNOT_LOAD`, one JSON line on standard error, and the same JSON beside the
   socket (`spec.fault_of`), for whoever has to say why the version is not ready.
4. SIGTERM is passed on, and what is in flight is answered. Its own death is the end of the processes below.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from router import lifeline
from router.errors import OperatorError
from router.serving import spec, user
from router.serving.doorway import Doorway

CANNOT_LOAD = 3
Tell = Callable[[dict[str, object]], None]
"""Says one thing to the process above: `ready`, or `error` with a `hint`."""


class Guard:
    """Runs `load` in a process of its own, with the listening socket; `load` returns the exit code."""

    def __init__(self, path: Path, model: Path, labels: dict[str, str], load: Callable[[socket.socket, Tell], int]):
        self._path = path
        self._model = model
        self._labels = labels
        self._load = load

    def run(self, life: int | None) -> int:
        """Until the model's processes have ended; returns the exit code. `life` is the supervisor's lifeline.

        Raises:
            OperatorError: the socket cannot be made.
        """
        spec.fault_of(self._path).unlink(missing_ok=True)
        doorway = Doorway(self._path)
        try:
            return self._watch(doorway, life)
        finally:
            doorway.close()

    def _watch(self, doorway: Doorway, life: int | None) -> int:
        scratch = spec.scratch_of(self._path)
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs_as = user.user_for(self._model)
        if runs_as is not None:
            user.prepare(runs_as, self._model, scratch)
        said, pid = self._start(doorway, scratch, runs_as)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
        if life is not None:
            lifeline.hold(life)
        with os.fdopen(said) as lines:
            for line in lines:
                self._hear(doorway, json.loads(line))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _start(self, doorway: Doorway, scratch: Path, runs_as: int | None) -> tuple[int, int]:
        """The end of a pipe on which the process below talks, and its pid."""
        said, tell = os.pipe()
        life, hold = os.pipe()
        pid = os.fork()
        if pid:
            os.close(tell)
            os.close(life)
            return said, pid
        code = 1
        try:
            os.close(said)
            os.close(hold)
            os.chdir(scratch)
            user.become(runs_as)
            lifeline.hold(life)
            code = self._load(doorway.socket, lambda what: _say(tell, what))
        except OperatorError as error:
            _say(tell, {"error": error.message, "hint": error.hint})
            code = CANNOT_LOAD
        except Exception:  # noqa: BLE001 - nobody above this frame would say it
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            # A prediction that never ends would keep its thread, and with it the process, for ever.
            os._exit(code)

    def _hear(self, doorway: Doorway, told: dict[str, str]) -> None:
        if "error" not in told:
            doorway.open()
            return
        line = json.dumps({**told, **self._labels})
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
        spec.fault_of(self._path).write_text(line, encoding="utf-8")


def _say(pipe: int, what: dict[str, object]) -> None:
    os.write(pipe, json.dumps(what).encode() + b"\n")
