"""Serves saved models twice, by the router's server and by MLflow's own scoring server app. It imports MLflow.

Rules:
1. For each model `DIR/<model>`, ours listens on `DIR/<model>.ours` and MLflow's on `DIR/<model>.theirs`.
2. It writes a line to standard output once all listen, and ends when standard input does.
3. One process, so that what depends on its hash seed is the same on both sides.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from router.serving import model, server
from router.serving.board import Board
from router.serving.doorway import listening
from router.serving.host import Host
from router.serving.proof import reader_for
from router.serving.scoring import Scorer


class _Quiet(uvicorn.Server):
    """Leaves the signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(root: Path) -> None:
    """Serves every model under `root` until standard input ends."""
    warnings.simplefilter("ignore")
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ExitStack() as stack:
        servers = []
        for directory in sorted(path.parent for path in root.glob("*/MLmodel")):
            ours, theirs = (stack.enter_context(listening(root / f"{directory.name}.{end}")) for end in _ENDS)
            servers.append(_our_host(directory, ours).run())
            servers.append(_Quiet(_their_config(directory)).serve(sockets=[theirs]))
        asyncio.run(_serve(servers))


_ENDS = ("ours", "theirs")


def _our_host(directory: Path, sock: socket.socket) -> Host:
    loaded = model.load(directory)
    scorer = Scorer(loaded)
    options = server.Options(most_rows=64, delay=0.0, memory=0, version="1", release="0")
    shop = server.Loaded(scorer, reader_for(scorer), model.example_of(loaded, directory), options)
    return Host(server.service_of(shop), [sock], Board(1), 0)


def _their_config(directory: Path) -> uvicorn.Config:
    from mlflow.pyfunc import scoring_server

    app = scoring_server.init(model.load(directory))
    return uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")


async def _serve(servers: list[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in servers:
            group.create_task(each)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        # Their servers would wait for open connections first.
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
