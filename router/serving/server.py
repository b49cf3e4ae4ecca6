"""One forked process of a version: warms up, shows what may be done with its requests, serves.

Rules:
1. It is ready once it has answered the model's own input example; only then does it take connections.
2. What predictions take in memory beside the loaded model is limited where the config says so: past that the model gets
   a `MemoryError`, and the one request a 500.
"""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import uvloop

from router.serving.columns import Columns
from router.serving.forks import Place
from router.serving.host import Host
from router.serving.line import Line
from router.serving.minding import Forked, Minder
from router.serving.model import Example, warm_up
from router.serving.openinference import OpenInference
from router.serving.pieces import Reader
from router.serving.proof import answers_alike, batches_agree, names_do_not_matter
from router.serving.scoring import Scorer
from router.serving.service import Face, Service
from router.serving.tfserving import Predict

_log = logging.getLogger(__name__)
# One prediction at a time: threads take turns under the interpreter's lock, and halved the throughput when measured.
_THREADS = 1
_KIB = 1024


@dataclass(frozen=True)
class Options:
    """How a model is served: rows in a batch and seconds to wait for them, bytes for predictions (0: no limit), what
    the version is called, MLflow's version."""

    most_rows: int
    delay: float
    memory: int
    version: str
    release: str


@dataclass(frozen=True)
class Loaded:
    """A model before anything was predicted: what all forked processes share. `reader` is proven on samples."""

    scorer: Scorer
    reader: Reader | None
    example: Example
    options: Options


def serve(loaded: Loaded, sockets: Sequence[socket.socket], inner: Path, place: Place) -> None:
    """Serves on `sockets`, of which that of path `inner` is for the processes of this version, until SIGTERM.

    Raises:
        OperatorError: the model fails on its own input example.
    """
    limit_memory(loaded.options.memory)
    minder = Forked(place, inner)
    service = service_of(loaded, minder)
    minder.expect(0)
    uvloop.run(_host(service, sockets, minder, place))


async def _host(service: Service, sockets: Sequence[socket.socket], minder: Forked, place: Place) -> None:
    host = Host(service, sockets, place.board, place.number)
    minder.end = host.leave
    place.say("ready")
    await host.run()


def service_of(loaded: Loaded, minder: Minder | None = None) -> Service:
    """All that answers for one model, warmed up. Raises OperatorError: the model fails on its own input example."""
    scorer, options, example = loaded.scorer, loaded.options, loaded.example.request
    warm_up(scorer, loaded.example)
    reader = loaded.reader
    if reader is not None and example is not None and not answers_alike(reader, scorer, example):
        reader = None
    if isinstance(reader, Columns) and example is not None and names_do_not_matter(reader, scorer, example):
        reader.bare = True
    batching = options.most_rows > 1 and reader is not None and example is not None
    if batching and reader is not None and example is not None:
        batching = batches_agree(reader, scorer.predict_ready, example)
    line = Line(
        scorer,
        reader,
        ThreadPoolExecutor(_THREADS, thread_name_prefix="predict"),
        most_rows=options.most_rows,
        batching=batching,
        delay=options.delay,
        minder=minder,
    )
    open_inference = OpenInference(scorer, reader, line, options.version)
    faces: dict[str, Face] = {"/v1/": Predict(scorer, reader, line), "/v2": open_inference, "/v2/": open_inference}
    _say_how(reader, options, line)
    return Service(scorer, reader, line, options.release, faces)


def _say_how(reader: Reader | None, options: Options, line: Line) -> None:
    _log.info(
        "serves; requests are read %s MLflow and predicted %s",
        "by" if reader is None else "without",
        f"up to {options.most_rows} rows together" if line.batching else "one by one",
    )
    if options.most_rows > 1 and not line.batching:
        _log.warning("batching stays off: the warm-up did not show that it changes no prediction (docs/serving.md)")


def limit_memory(size: int) -> None:
    """What this process may take from now on, in bytes beside what it has; 0: no limit."""
    if size:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        taken = int(status.partition("VmData:")[2].split()[0]) * _KIB
        resource.setrlimit(resource.RLIMIT_DATA, (taken + size, taken + size))
