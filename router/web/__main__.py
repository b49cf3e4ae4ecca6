"""The control process: `python -m router.web --run RUN --fd ADMIN_FD --lifeline FD`, started by the supervisor.

Rules:
1. The composition root: the only place where control's parts meet the real store, registry and clock.
2. SIGTERM ends it in an orderly way, SIGINT is the supervisor's business.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from router import logs
from router.clock import SystemClock
from router.config.settings_schema import Settings
from router.control.health import HttpProbe
from router.control.service import Control, Setup
from router.lifeline import hold
from router.registry import client, files, sources
from router.serving.spec import command
from router.store.sqlite import SqliteStore
from router.web.app import build_app
from router.web.dashboard.site import Dashboard

GRACE_SECONDS = 3


class _Registry:
    """`router.control.models.Registry` through short-lived children."""

    def __init__(self, registry: str | None, sources: Sequence[str], environments: Path) -> None:
        self._registry = registry
        self._environments = environments
        self._sources = sources

    async def resolve(self, uri: str) -> Mapping[str, object]:
        """See `Registry`."""
        found = await client.resolve(uri, registry=self._registry)
        await asyncio.to_thread(sources.check, uri, found.resolved, found.source, self._sources)
        resolved: dict[str, object] = msgspec.to_builtins(found)
        return resolved

    async def fetch(self, uri: str, directory: Path, expected: str) -> str:
        """See `Registry`."""
        # What is here already needs no child to be started.
        held: bool = await asyncio.to_thread(files.holds, directory, expected) if expected else False
        if held:
            return expected
        return (await client.fetch(uri, to=directory, registry=self._registry, expected=expected)).digest

    async def prepare(self, directory: Path) -> Path:
        """See `Registry`."""
        return Path((await client.prepare(directory, root=self._environments)).python)


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m router.web")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    arguments = parser.parse_args()
    hold(arguments.lifeline)
    logs.set_up("control")
    for chatty in ("httpx", "watchfiles", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The server raises SIGTERM once more when it has ended in good order; that must not end us by signal.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvloop.run(_serve(arguments.run, socket.socket(fileno=arguments.fd)))


async def _serve(run: Path, listener: socket.socket) -> None:
    # Batches from workers are thousands of objects that live for a moment: looking at each generation's youngest seven
    # hundred, as is the default, costs a sixth of this process's time with a thousand models.
    gc.set_threshold(20_000, 20, 50)
    resolved = json.loads(await asyncio.to_thread((run / "settings.json").read_bytes))
    settings = Settings.model_validate(resolved["settings"])
    probe = HttpProbe()
    clock = SystemClock()
    control = Control(
        Setup(
            config=settings.config or Path("config"),
            state=settings.state,
            run=run,
            regions=tuple(settings.listen),
            workers=resolved["worker_count"],
            notify=settings.notify,
        ),
        store=SqliteStore(settings.state / "canary-router.db", clock),
        registry=_Registry(settings.registry, settings.model_sources, settings.state / "environments"),
        command=command,
        probe=probe,
        clock=clock,
    )
    await control.start()
    dashboard = Dashboard(control, settings.registry or "")
    dashboard.start()
    server = _Server(
        uvicorn.Config(
            build_app(control, tokens=settings.tokens, read_token=settings.read_token, dashboard=dashboard),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        ),
        dashboard.close,
    )
    try:
        await server.serve(sockets=[listener])
    finally:
        await control.close()
        await probe.close()


class _Server(uvicorn.Server):
    """Leaves SIGINT alone: at a terminal it reaches every process, and only the supervisor may act on it.

    `ending` is called first of all at the end: streams would be waited for.
    """

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See the class."""
        self._ending()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: object) -> None:
        if sig == signal.SIGTERM:
            self.should_exit = True


if __name__ == "__main__":
    main()
