"""The children: started, watched, started again.

Rules:
1. A child that ends unasked is started again after a pause: 0.1 s, doubling to 10 s, anew after 30 s alive; at least
   5 s where its exit code says that another try will hardly help.
2. Asked to stop, a child gets SIGTERM, and SIGKILL once its patience is over.
3. Asked to restart, a child gets SIGKILL and is started again without a pause.
4. Every change is told to whoever listens. A child that fails again and again is logged a few times, then once more
   in a line that says so, then no more until it stays up.
5. A child has a process group of its own (Ctrl-C is the supervisor's to handle), no standard input, and of our
   descriptors only those it is given.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypedDict

from router.clock import Clock
from router.control.backoff import Backoff

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
HOPELESS_PAUSE = 5.0
SETTLED_AFTER = 30.0
QUIET_AFTER = 5
"""Failures in a row after which a child's failing is no news any more."""

NOT_STARTED = 127
"""The exit code of a child whose program could not even be started, as a shell has it."""

State = Literal["running", "backoff", "stopped"]


class Report(TypedDict):
    """A child as told to control; `since` in wall-clock seconds, `exit` of its last end."""

    name: str
    pid: int | None
    state: State
    restarts: int
    exit: int | None
    since: float


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run: `env` is complete (None: the supervisor's own); `descriptors` are inherited under their numbers.

    `hopeless` is the exit code of a child that will end the same way again.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    descriptors: tuple[int, ...] = ()
    hopeless: int | None = None


class Child:
    """One child, kept running from `start` to `stop`."""

    def __init__(self, name: str, spec: Spec, clock: Clock, on_change: Callable[[Child], None]) -> None:
        self.name = name
        self.spec = spec
        self.state: State = "stopped"
        self.restarts = 0
        self.exit: int | None = None
        self.since = clock.wall()
        self._clock = clock
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = True
        self._at_once = asyncio.Event()
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self.state == "running" else None

    def report(self) -> Report:
        """The child as told to control."""
        return Report(
            name=self.name,
            pid=self.pid,
            state=self.state,
            restarts=self.restarts,
            exit=self.exit,
            since=self.since,
        )

    def start(self) -> None:
        """Begins to keep the child running."""
        self._task = asyncio.create_task(self._keep(), name=self.name)

    def restart(self) -> None:
        """Rule 3."""
        self._at_once.set()
        self.kill()

    def kill(self) -> None:
        """SIGKILL, where it runs."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Sends it signal `number`, where it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM, where it runs; it is not started again."""
        self._wanted = False
        self._at_once.set()
        self.signal(signal.SIGTERM)

    async def stop(self, patience: float) -> None:
        """Rule 2; returns once the process is gone. `patience` in seconds."""
        self.terminate()
        if not await self.ended(patience):
            log.warning("%s did not end within %g s of SIGTERM: killing it", self.name, patience)
            self.kill()
            await self.ended(None)

    async def ended(self, within: float | None) -> bool:
        """Whether a child that is not wanted any more is gone `within` so many seconds; None waits for it."""
        if self._task is None:
            return True
        done, _ = await asyncio.wait({self._task}, timeout=within)
        return bool(done)

    async def _keep(self) -> None:
        while self._wanted:
            self._at_once.clear()
            self.exit = await self._run_once()
            if self._wanted and not self._at_once.is_set():
                await self._pause()
            self.restarts += self._wanted
        self._change("stopped")

    async def _run_once(self) -> int:
        """The exit code of one life; the signal's number, negative, where one ended it."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env=self.spec.env,
                stdin=subprocess.DEVNULL,
                pass_fds=self.spec.descriptors,
                process_group=0,
            )
        except (OSError, ValueError) as error:
            log.warning("%s cannot be started: %s: %s", self.name, self.spec.argv[0], error)
            return NOT_STARTED
        self._change("running")
        if self._backoff.failures <= QUIET_AFTER:
            log.info("%s runs, pid %d", self.name, self._process.pid)
        if not self._wanted:
            self.terminate()
        settled = asyncio.create_task(self._settle())
        try:
            return await self._process.wait()
        finally:
            settled.cancel()
            self._process = None

    async def _settle(self) -> None:
        """A child that failed again and again and now stays up is news."""
        await self._clock.sleep(SETTLED_AFTER)
        if self._backoff.failures > QUIET_AFTER:
            log.info("%s stays up again", self.name)
        self._backoff.succeed()

    async def _pause(self) -> None:
        self._backoff.fail()
        pause = self._backoff.pause
        if self.exit == self.spec.hopeless:
            pause = max(pause, HOPELESS_PAUSE)
        self._change("backoff")
        self._complain(pause)
        waiting = asyncio.create_task(self._clock.sleep(pause))
        asked = asyncio.create_task(self._at_once.wait())
        await asyncio.wait({waiting, asked}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        asked.cancel()

    def _complain(self, pause: float) -> None:
        failures = self._backoff.failures
        if failures < QUIET_AFTER:
            log.warning("%s ended unasked (%s); starting it again in %g s", self.name, _manner(self.exit), pause)
        elif failures == QUIET_AFTER:
            log.error(
                "%s has failed %d times in a row (last: %s); its own messages say why; it is tried again in %g s, then"
                " after pauses of up to %g s, without further word until it stays up",
                self.name,
                failures,
                _manner(self.exit),
                pause,
                LONGEST_PAUSE,
            )

    def _change(self, state: State) -> None:
        self.state = state
        self.since = self._clock.wall()
        self._on_change(self)


def _manner(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


class Children:
    """All children by name. `on_change` is called with each child that changed.

    What is asked of one name happens in the order it was asked: a new child never starts beside its predecessor.
    """

    def __init__(self, clock: Clock, on_change: Callable[[Child], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}

    def reports(self) -> list[Report]:
        """Every child, in the order of their names."""
        return [child.report() for _, child in sorted(self._children.items())]

    def run(self, name: str, spec: Spec, patience: float) -> None:
        """Has `spec` run under `name`; what runs there under another spec is stopped first, with `patience` (s)."""
        before = self._children.get(name)
        if before is not None and before.spec == spec:
            return
        child = self._children[name] = Child(name, spec, self._clock, self._on_change)
        self._in_turn(name, self._replace(before, child, patience))

    async def _replace(self, before: Child | None, child: Child, patience: float) -> None:
        if before is not None:
            await before.stop(patience)
        if self._children.get(child.name) is child:
            child.start()

    def stop(self, name: str, patience: float) -> None:
        """Has `name` stopped and forgotten; nothing happens where there is none."""
        child = self._children.pop(name, None)
        if child is not None:
            self._in_turn(name, child.stop(patience))

    def restart(self, name: str) -> None:
        """Kills and starts `name` again; nothing happens where there is none."""
        if name in self._children:
            self._children[name].restart()

    def signal(self, prefix: str, number: int) -> None:
        """Sends signal `number` to those that run and whose names begin with `prefix`."""
        for name, child in self._children.items():
            if name.startswith(prefix):
                child.signal(number)

    async def stop_all(self, prefixes: Sequence[str], patience: float) -> None:
        """Stops those whose names begin with one of `prefixes`, all at the same time, and waits for them."""
        names = [name for name in self._children if name.startswith(tuple(prefixes))]
        for name in names:
            self.stop(name, patience)
        await asyncio.gather(*(turn for name, turn in self._turns.items() if name.startswith(tuple(prefixes))))

    def kill_all(self) -> None:
        """SIGKILL for everything that still runs; nothing is started again."""
        for child in self._children.values():
            child.terminate()
            child.kill()

    def _in_turn(self, name: str, work: Coroutine[None, None, None]) -> None:
        before = self._turns.get(name)

        async def turn() -> None:
            if before is not None:
                await asyncio.wait({before})
            await work
            if self._turns.get(name) is asyncio.current_task():
                del self._turns[name]

        self._turns[name] = asyncio.create_task(turn())
