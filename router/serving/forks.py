"""The parent of a version's processes: forks them from the loaded model, and replaces those that end.

Rules:
1. Whatever is loaded is loaded before the fork and shared; nothing is predicted in the parent, whose children would
   hang in libraries that had started threads.
2. A process that ends is replaced after a pause: 0.1 s, doubling to 5 s, anew after `SETTLED` seconds alive. After
   `GIVE_UP` ends in a row the parent gives itself up, and says how the last one ended.
3. A process that says that it leaves, because a prediction holds it up, is replaced at once. It gets `LEAVE` seconds.
4. A process whose prediction did not end in time, and which does not even say so, is killed.
5. What cannot be served at the start is not tried again.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from router import lifeline
from router.errors import OperatorError
from router.serving.board import Board
from router.serving.guard import CANNOT_LOAD, Tell

_log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SETTLED = 10.0
GIVE_UP = 5
LEAVE = 75.0
WARM_UP = 300.0
_LOOK = 0.2
_HINT = "the router's log has what it printed; the model may crash on some input, or need more memory"
Work = Callable[["Place"], None]


@dataclass(frozen=True)
class Place:
    """One forked process's place: its number on the board, and how it talks to its parent."""

    number: int
    board: Board
    _pipe: int

    def say(self, word: str, **more: str) -> None:
        """`ready`, `leaving`, or `error` with what is wrong."""
        os.write(self._pipe, json.dumps({"word": word, **more}).encode() + b"\n")


@dataclass(eq=False)
class _Child:
    pid: int
    place: int
    pipe: int
    since: float
    state: str = "warming"
    heard: bytes = b""
    why: str = ""
    kill_at: float = field(default=float("inf"))


class Forks:
    """Keeps `number` processes doing `work`, and tells when all are ready for the first time."""

    def __init__(self, number: int, board: Board, work: Work, tell: Tell) -> None:
        self._number = number
        self._board = board
        self._work = work
        self._tell = tell
        self._children: dict[int, _Child] = {}
        self._failures = 0
        self._next = 0.0
        self._told = self._ending = False
        self._refusal: dict[str, object] | None = None

    def run(self) -> int:
        """Until SIGTERM, or until it gives up; returns the exit code."""
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        gc.collect()
        # The collector would write into every object, and unshare its page.
        gc.freeze()
        while not self._done():
            self._refill()
            self._wait(woken)
            for child in list(self._children.values()):
                self._hear(child)
            self._cull(time.monotonic())
            self._reap()
        return self._finish()

    def _done(self) -> bool:
        return self._refusal is not None or (self._ending and not self._children)

    def _finish(self) -> int:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        if self._refusal is None:
            return 0
        self._tell(self._refusal)
        return CANNOT_LOAD

    def _end(self) -> None:
        self._ending = True
        for child in self._children.values():
            os.kill(child.pid, signal.SIGTERM)

    def _refill(self) -> None:
        staying = [child for child in self._children.values() if child.state != "leaving"]
        self._board.leaving(len(self._children) - len(staying))
        if self._ending or time.monotonic() < self._next:
            return
        taken = {child.place for child in self._children.values()}
        free = [place for place in range(self._board.places) if place not in taken]
        for place in free[: self._number - len(staying)]:
            self._fork(place)

    def _fork(self, place: int) -> None:
        heard, said = os.pipe()
        life, hold = os.pipe()
        self._board.clear(place)
        self._board.expect(place, time.monotonic() + WARM_UP)
        pid = os.fork()
        if pid:
            os.close(said)
            os.close(life)
            os.set_blocking(heard, False)
            # `hold` stays open for as long as this process lives: that is what it is for.
            self._children[pid] = _Child(pid, place, heard, time.monotonic())
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.close(hold)
            lifeline.hold(life)
            code = self._child(Place(place, self._board, said))
        finally:
            os._exit(code)

    def _child(self, place: Place) -> int:
        try:
            self._work(place)
        except OperatorError as error:
            place.say("error", error=error.message, hint=error.hint)
            return CANNOT_LOAD
        except Exception:  # noqa: BLE001 - nobody above this frame would say it
            _log.exception("the process ends")
            return 1
        return 0

    def _wait(self, woken: int) -> None:
        pipes = [child.pipe for child in self._children.values()]
        select.select([woken, *pipes], [], [], _LOOK)
        with suppress(BlockingIOError):
            os.read(woken, 4096)

    def _hear(self, child: _Child) -> None:
        with suppress(BlockingIOError):
            child.heard += os.read(child.pipe, 65536)
        *lines, child.heard = child.heard.split(b"\n")
        for line in lines:
            self._note(child, json.loads(line))

    def _note(self, child: _Child, told: dict[str, str]) -> None:
        if told["word"] == "error":
            child.why = told["error"]
            if not self._told:
                self._refusal = {"error": told["error"], "hint": told["hint"]}
        elif told["word"] == "leaving":
            child.state, child.kill_at = "leaving", time.monotonic() + LEAVE
        else:
            child.state = "ready"
            ready = [each for each in self._children.values() if each.state == "ready"]
            if not self._told and len(ready) == self._number:
                self._told = True
                self._tell({"ready": True})

    def _cull(self, now: float) -> None:
        for child in self._children.values():
            deadline = self._board.deadline(child.place)
            if now > child.kill_at or (0 < deadline < now and child.state != "leaving"):
                child.why = "its warm-up did not end" if child.state == "warming" else "a prediction did not end"
                _log.warning("a process is killed: %s in time", child.why)
                # Once is enough, but dying may take a moment.
                self._board.expect(child.place, 0.0)
                child.kill_at = float("inf")
                os.kill(child.pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            child = self._children.pop(pid)
            self._hear(child)
            os.close(child.pipe)
            self._board.clear(child.place)
            if child.state != "leaving" and not self._ending:
                self._failed(child, os.waitstatus_to_exitcode(status))

    def _failed(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        self._failures = 1 if now - child.since > SETTLED else self._failures + 1
        self._next = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._failures - 1))
        why = child.why or _ended(code)
        _log.warning("a process of the model ended: %s", why)
        if self._refusal is None and (not self._told or self._failures >= GIVE_UP):
            times = f", {self._failures} times in a row" if self._told else " while it warmed up"
            self._refusal = {"error": f"the model's process ended: {why}{times}", "hint": _HINT}


def _ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
