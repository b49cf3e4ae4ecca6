"""supervisor.sock: control says which model servers shall run, the supervisor tells what became of its children.

Rules:
1. One JSON object per line, both ways: `run`, `stop`, `list`, `restart` in; `children`, `child`, `draining` and `error`
   out.
2. Whoever connects is told all children first, and that the router drains, if it does.
3. Only model servers (`pyfunc-…`) are run and stopped on request; the router's own processes can only be restarted.
4. A line that is not understood is answered with an `error` event and changes nothing.
5. A listener that does not read is dropped once its backlog passes a limit: it never holds up the supervisor.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from router.supervisor.children import Child, Children, Spec

log = logging.getLogger(__name__)

MAX_LINE = 4 * 1024 * 1024
MAX_BACKLOG = 16 * 1024 * 1024
STOP_PATIENCE = 5.0
"""Seconds a model server gets between SIGTERM and SIGKILL."""

PYFUNC = "pyfunc-"


class Channel:
    """The supervisor's end. `adopt` turns argv and environment from control into what is run."""

    def __init__(self, adopt: Callable[[list[str], Mapping[str, str]], Spec]) -> None:
        self._adopt = adopt
        self._listeners: set[asyncio.StreamWriter] = set()
        self._draining = False
        self._server: asyncio.Server | None = None
        self.children: Children

    async def open(self, path: Path, children: Children) -> None:
        """Listens on `path`, for this user alone."""
        self.children = children
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(path), limit=MAX_LINE)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._listeners):
            writer.transport.abort()

    def tell_change(self, child: Child) -> None:
        """Tells every listener about `child`."""
        self._tell_all({"event": "child", **child.report()})

    def tell_draining(self) -> None:
        """Tells every listener, and whoever comes later, that the router drains."""
        self._draining = True
        self._tell_all({"event": "draining"})

    def _tell_all(self, message: Mapping[str, object]) -> None:
        for writer in tuple(self._listeners):
            _tell(writer, message)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listeners.add(writer)
        try:
            self._tell_children(writer)
            if self._draining:
                _tell(writer, {"event": "draining"})
            while line := await reader.readline():
                self._hear(line, writer)
        except (OSError, ValueError) as error:
            log.warning("a connection to supervisor.sock broke: %s", error)
        finally:
            self._listeners.discard(writer)
            writer.transport.abort()

    def _tell_children(self, writer: asyncio.StreamWriter) -> None:
        _tell(writer, {"event": "children", "children": self.children.reports()})

    def _hear(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            self._obey(json.loads(line), writer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a request on supervisor.sock was not understood: %r", error)
            _tell(writer, {"event": "error", "message": f"not understood: {error!r}"})

    def _obey(self, request: Mapping[str, object], writer: asyncio.StreamWriter) -> None:
        op = request["op"]
        if op == "list":
            self._tell_children(writer)
        elif op == "restart":
            self.children.restart(str(request["name"]))
        elif op == "run":
            self.children.run(_model_server(request), self._spec(request), STOP_PATIENCE)
        elif op == "stop":
            self.children.stop(_model_server(request), STOP_PATIENCE)
        else:
            raise ValueError(f"no such op: {op!r}")

    def _spec(self, request: Mapping[str, object]) -> Spec:
        argv, env = request["argv"], request["env"]
        if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
            raise TypeError("argv must be a list of strings")
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise TypeError("env must map names to strings")
        return self._adopt(argv, env)


def _model_server(request: Mapping[str, object]) -> str:
    name = str(request["name"])
    if not name.startswith(PYFUNC):
        raise ValueError(f"{name!r} is none of the model servers")
    return name


def _tell(writer: asyncio.StreamWriter, message: Mapping[str, object]) -> None:
    with suppress(OSError):
        writer.write(json.dumps(message).encode() + b"\n")
    if writer.transport.get_write_buffer_size() > MAX_BACKLOG:
        writer.transport.abort()
