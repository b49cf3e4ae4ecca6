"""One router, from its settings to its end.

Rules:
1. Everything that can be refused is refused before the first child starts: state directory, lock, ports.
2. SIGTERM, SIGINT: say that we drain, wait `drain_delay`, stop listening and SIGTERM the workers, give them `grace`,
   then the model servers and control, then SIGKILL, exit 0. Workers are told by SIGUSR1, and by the file `draining` in
   the run directory those that start meanwhile.
3. SIGINT while it ends already: everything is killed at once, exit 1.
4. A child's death is never the end of the supervisor; the supervisor's death is the end of every child (lifeline).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from router.clock import Clock, SystemClock
from router.config.settings import Settings
from router.supervisor.addresses import PortInUseError, bound_address, is_loopback, listen, url_of
from router.supervisor.admin_token import with_admin_token
from router.supervisor.channel import PYFUNC, STOP_PATIENCE, Channel
from router.supervisor.children import Children, Spec
from router.supervisor.state import StateDirectory

log = logging.getLogger(__name__)

PORT_PATIENCE = 3.0
"""Seconds to wait for a port that the children of a router that just died may still hold."""

MOST_DESCRIPTORS = 1 << 20

CANNOT_LOAD = 3
"""The exit code of a model server whose model cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Programs:
    """How children are started, before their own arguments."""

    # -P: what lies in the working directory must not pose as one of our modules.
    control: tuple[str, ...] = (sys.executable, "-P", "-m", "router.web")
    worker: tuple[str, ...] = (sys.executable, "-P", "-m", "router.dataplane")


def serve(settings: Settings, programs: Programs | None = None) -> int:
    """Runs a router until it is told to end; returns the exit code.

    Raises:
        OperatorError: the state directory or an address cannot be had.
    """
    _raise_descriptor_limit()
    with ExitStack() as cleanup:
        state = StateDirectory(settings.state)
        cleanup.callback(state.close)
        if os.geteuid() == 0:
            # Models run as other users; what any process of the router makes from now on is closed to them.
            os.umask(0o077)
            state.let_models_pass()
        supervisor = Supervisor(settings, state, programs or Programs(), SystemClock(), cleanup)
        return asyncio.run(supervisor.run())


class Supervisor:
    """The sequence of rules 1 to 3. Sockets and descriptors are closed by `cleanup`."""

    def __init__(
        self, settings: Settings, state: StateDirectory, programs: Programs, clock: Clock, cleanup: ExitStack
    ) -> None:
        self._settings = with_admin_token(settings.model_copy(update={"state": state.path}), state)
        self._state = state
        self._programs = programs
        self._clock = clock
        self._cleanup = cleanup
        self._listeners: dict[str, socket.socket] = {}
        self._lifeline, write_end = os.pipe()
        cleanup.callback(os.close, write_end)
        cleanup.callback(os.close, self._lifeline)
        self._channel = Channel(self._adopt)
        self._children = Children(clock, self._channel.tell_change)
        self._end = asyncio.Event()
        self._at_once = asyncio.Event()

    async def run(self) -> int:
        """See `serve`."""
        self._obey_signals()
        for region, address in self._settings.listen.items():
            self._listeners[region] = await self._listen(address, f"listen ({region})")
        admin = await self._listen(self._settings.admin, "admin")
        await self._channel.open(self._state.run / "supervisor.sock", self._children)
        self._publish(admin)
        self._start(admin)
        self._announce(admin)
        await self._end.wait()
        return await self._finish()

    async def _listen(self, address: str, what: str) -> socket.socket:
        deadline = self._clock.monotonic() + (PORT_PATIENCE if self._state.left_over else 0.0)
        while True:
            try:
                listener = listen(address, what)
            except PortInUseError:
                if self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(0.05)
            else:
                self._cleanup.callback(listener.close)
                return listener

    def _publish(self, admin: socket.socket) -> None:
        bound = {region: bound_address(listener) for region, listener in self._listeners.items()}
        self._state.write(
            self._state.run / "settings.json",
            json.dumps(
                {
                    "settings": self._settings.model_dump(mode="json"),
                    "bound": {"admin": bound_address(admin), "listen": bound},
                    "worker_count": self._worker_count,
                    "run": str(self._state.run),
                }
            ),
        )
        urls = {region: url_of(listener) for region, listener in self._listeners.items()}
        self._state.publish({"pid": os.getpid(), "admin": url_of(admin), "listen": urls})

    @property
    def _worker_count(self) -> int:
        return self._settings.workers or len(os.sched_getaffinity(0))

    def _start(self, admin: socket.socket) -> None:
        run = str(self._state.run)
        common = ("--run", run, "--lifeline", str(self._lifeline))
        control = (*self._programs.control, *common, "--fd", str(admin.fileno()))
        self._children.run("control", Spec(control, None, (self._lifeline, admin.fileno())), STOP_PATIENCE)
        listen = [f"--listen={region}={listener.fileno()}" for region, listener in self._listeners.items()]
        descriptors = (self._lifeline, *(listener.fileno() for listener in self._listeners.values()))
        for index in range(self._worker_count):
            worker = (*self._programs.worker, *common, "--index", str(index), *listen)
            self._children.run(f"worker-{index}", Spec(worker, None, descriptors), STOP_PATIENCE)

    def _adopt(self, argv: list[str], env: Mapping[str, str]) -> Spec:
        return Spec((*argv, "--lifeline", str(self._lifeline)), dict(env), (self._lifeline,), hopeless=CANNOT_LOAD)

    def _announce(self, admin: socket.socket) -> None:
        for region, listener in self._listeners.items():
            log.info("listening on http://%s (region %s)", bound_address(listener), region)
        log.info("admin on http://%s", bound_address(admin))
        if not self._settings.tokens and not is_loopback(self._settings.admin):
            log.warning("no tokens are configured: nobody may read or change anything through the admin port")

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        # A terminal that closes ends the router in it; elsewhere SIGHUP asks for what happens by itself.
        if sys.stderr.isatty():
            loop.add_signal_handler(signal.SIGHUP, self._end.set)
        else:
            loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP: configs are read again whenever they change")

    def _interrupted(self) -> None:
        if self._end.is_set():
            self._at_once.set()
        self._end.set()

    async def _finish(self) -> int:
        ending = asyncio.create_task(self._drain_and_stop())
        hurry = asyncio.create_task(self._at_once.wait())
        await asyncio.wait({ending, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if ending.done():
            await ending
            log.info("ended")
            return 0
        log.warning("interrupted again: ending at once")
        ending.cancel()
        self._children.kill_all()
        return 1

    async def _drain_and_stop(self) -> None:
        log.info("draining; interrupt again to end at once")
        self._channel.tell_draining()
        try:
            (self._state.run / "draining").touch()
        except OSError as error:
            log.warning("a worker that is started again now will not know that the router drains: %s", error)
        self._children.signal("worker-", signal.SIGUSR1)
        await self._clock.sleep(self._settings.drain_delay)
        for listener in self._listeners.values():
            listener.close()
        await self._children.stop_all(("worker-",), self._settings.grace)
        await self._children.stop_all((PYFUNC, "control"), STOP_PATIENCE)
        await self._channel.close()


def _raise_descriptor_limit() -> None:
    """A connection is a descriptor here and one in the worker's upstream pool; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
