"""The HTTP server around one loaded model, on a Unix socket that appears only when it is ready.

Rules:
1. The socket is bound and listening under a name of its own, then renamed into place: nobody meets a half-ready one,
   and one that a killed predecessor left behind is replaced.
2. SIGTERM ends it once what is in flight is answered; SIGINT is the supervisor's to interpret.
3. Connections stay open between requests for longer than the router's pool keeps them.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from router.errors import OperatorError
from router.serving.line import Line
from router.serving.openinference import OpenInference
from router.serving.proof import answers_alike, batches_agree, reader_for
from router.serving.protocol import Connection
from router.serving.scoring import Scorer
from router.serving.service import Face, Service
from router.serving.tfserving import Predict

_log = logging.getLogger(__name__)
_BACKLOG = 1024
_LONGEST_PATH = 107
_PLACE = "the directory must be writable, and the path under 108 bytes"
_LAST_WORD = 3600
# One prediction at a time: threads take turns under the interpreter's lock, and halved the throughput when measured.
_THREADS = 1


def serve(path: Path, service: Service) -> None:
    """Serves on the Unix socket `path` until SIGTERM.

    Raises:
        OperatorError: the socket cannot be made.
    """
    with listening(path) as sock:
        _Server(config_of(service)).run(sockets=[sock])


def service_of(scorer: Scorer, example: bytes | None, options: Options) -> Service:
    """All that answers for one model; `example` is its input example as a request, which shows what may be done."""
    reader = reader_for(scorer)
    if reader is not None and example is not None and not answers_alike(reader, scorer, example):
        reader = None
    batching = reader is not None and example is not None and batches_agree(reader, scorer.predict_ready, example)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="predict")
    line = Line(scorer, reader, executor, most_rows=options.most_rows, batching=batching)
    open_inference = OpenInference(scorer, reader, line, options.version)
    faces: dict[str, Face] = {"/v1/": Predict(scorer, reader, line), "/v2": open_inference, "/v2/": open_inference}
    _log.info(
        "serves; requests are read %s MLflow and predicted %s",
        "by" if reader is None else "without",
        f"up to {options.most_rows} rows together" if line.batching else "one by one",
    )
    return Service(scorer, reader, line, options.release, faces)


class Options(NamedTuple):
    """How a model is served: rows in a batch, what the version is called, MLflow's version."""

    most_rows: int
    version: str
    release: str


def config_of(service: Service) -> uvicorn.Config:
    """How uvicorn hosts `service`."""

    def connection(*, server_state: Any, **_named: object) -> Connection:
        return Connection(service, server_state)

    return uvicorn.Config(
        _no_app,
        http=connection,  # type: ignore[arg-type] # any callable with uvicorn's keywords does
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        # The supervisor decides when grace is over, and kills.
        timeout_graceful_shutdown=_LAST_WORD,
    )


async def _no_app(_scope: object, _receive: object, _send: object) -> None:
    """Connections answer by themselves."""


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
