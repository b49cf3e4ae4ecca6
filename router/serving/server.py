"""The HTTP server around one loaded model, on a Unix socket that appears only when it is ready.

Rules:
1. The socket is bound and listening under a name of its own, then renamed into place: nobody meets a half-ready one,
   and one that a killed predecessor left behind is replaced.
2. SIGTERM ends it once what is in flight is answered; SIGINT is the supervisor's to interpret.
3. Connections stay open between requests for longer than the router's pool keeps them.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from router.errors import OperatorError
from router.serving.app import App, Predict

KEEP_ALIVE = 75
_BACKLOG = 1024
_LONGEST_PATH = 107
_PLACE = "the directory must be writable, and the path under 108 bytes"
_LAST_WORD = 3600
# One prediction at a time: threads take turns under the interpreter's lock, and halved the throughput when measured.
_THREADS = 1


def serve(path: Path, predict: Predict, release: str) -> None:
    """Serves `predict` on the Unix socket `path` until SIGTERM. `release` is what `GET /version` says.

    Raises:
        OperatorError: the socket cannot be made.
    """
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="predict")
    with listening(path) as sock:
        _Server(config_of(predict, executor, release)).run(sockets=[sock])


def config_of(predict: Predict, executor: Executor, release: str) -> uvicorn.Config:
    """How uvicorn hosts `predict`."""
    return uvicorn.Config(
        App(predict, executor, release),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        # The supervisor decides when grace is over, and kills.
        timeout_graceful_shutdown=_LAST_WORD,
    )


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens on `path`, readable by this user alone; `path` is removed afterwards if it is still ours.

    Raises:
        OperatorError: the path is too long for a socket, or its directory cannot be written.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OperatorError(f"cannot listen on {path}: the path is too long for a socket", hint=_PLACE)
    draft = path.with_name(f".{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        draft.unlink(missing_ok=True)
        sock.bind(str(draft))
        draft.chmod(0o600)
        sock.listen(_BACKLOG)
        ours = draft.stat().st_ino
        draft.rename(path)
    except OSError as fault:
        sock.close()
        raise OperatorError(
            f"cannot listen on {path}: {fault.strerror or fault}",
            hint=_PLACE,
        ) from fault
    try:
        yield sock
    finally:
        sock.close()
        if path.exists() and path.stat().st_ino == ours:
            path.unlink()


class _Server(uvicorn.Server):
    """uvicorn's server, ended by SIGTERM alone and without raising the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield
