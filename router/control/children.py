"""Control's side of supervisor.sock: which model servers shall run, and what became of them.

Rules:
1. What shall run is said again on every connection; saying it twice changes nothing.
2. A lost supervisor is looked for until it is back; nobody waits for it.
3. What the supervisor says that is not understood is logged and passed over.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.clock import Clock
from router.control.backoff import Backoff

log = logging.getLogger(__name__)

MAX_LINE = 4 * 1024 * 1024
"""Bytes of the longest line the supervisor may send."""


@dataclass(frozen=True, slots=True)
class Child:
    """One child as the supervisor sees it; `state` is running, backoff or stopped, `exit` of its last end."""

    name: str
    state: str
    pid: int | None = None
    restarts: int = 0
    exit: int | None = None


class Children:
    """The model servers under the supervisor."""

    def __init__(self, path: Path, clock: Clock, on_child: Callable[[Child], None]) -> None:
        self._path = path
        self._clock = clock
        self._on_child = on_child
        self._specs: dict[str, dict[str, object]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self.known: dict[str, Child] = {}
        self.draining = False

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Has `name` run and kept running."""
        self._specs[name] = {"op": "run", "name": name, "argv": list(argv), "env": dict(env)}
        self._say(self._specs[name])

    def stop(self, name: str) -> None:
        """Has `name` stopped and forgotten."""
        self._specs.pop(name, None)
        self.known.pop(name, None)
        self._say({"op": "stop", "name": name})

    def restart(self, name: str) -> None:
        """Has `name` killed and started again."""
        self._say({"op": "restart", "name": name})

    def _say(self, message: Mapping[str, object]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def keep_connected(self) -> None:
        """Connects, listens, and connects again, for ever."""
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_LINE)
                backoff.succeed()
                for spec in self._specs.values():
                    self._say(spec)
                await self._listen(reader)
            except (OSError, ValueError) as error:
                log.debug("no supervisor behind %s: %s", self._path, error)
            finally:
                self._hang_up()
            backoff.fail()
            await self._clock.sleep(backoff.pause)

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            try:
                self._hear(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("the supervisor said what control does not understand: %r", error)

    def _hear(self, message: Mapping[str, object]) -> None:
        event = message["event"]
        if event == "draining":
            self.draining = True
        elif event == "child":
            self._note(message)
        elif event == "children":
            listed = message["children"]
            if not isinstance(listed, list):
                raise TypeError("children is no list")
            self.known.clear()
            for entry in listed:
                self._note(entry)

    def _note(self, entry: Mapping[str, object]) -> None:
        pid, code, restarts = entry.get("pid"), entry.get("exit"), entry.get("restarts")
        child = Child(
            name=str(entry["name"]),
            state=str(entry["state"]),
            pid=pid if isinstance(pid, int) else None,
            restarts=restarts if isinstance(restarts, int) else 0,
            exit=code if isinstance(code, int) else None,
        )
        self.known[child.name] = child
        self._on_child(child)
