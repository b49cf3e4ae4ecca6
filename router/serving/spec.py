"""How a pyfunc server is started: its command line and its whole environment.

Rules:
1. An allow-list: a model's code sees no token, no registry credentials, nothing of the router's settings.
2. Its home, its working directory and its temporary files are scratch, beside its socket; by default it writes nowhere
   else.
3. Cheap to import: no MLflow, no asyncio.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from router.config.serving import Launch

_PASSED_ON = frozenset(
    {
        "PATH",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
    }
)
_THREAD_CAPS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_CORES_PER_THREAD = 4


def command(launch: Launch) -> tuple[list[str], dict[str, str]]:
    """The argument vector and the complete environment of the server `launch`.

    The supervisor appends `--lifeline FD`.
    """
    serving = launch.serving
    argv = [
        *(str(launch.python or sys.executable), "-m", "router.serving"),
        *("--socket", str(launch.socket), "--model", str(launch.directory)),
        *("--name", launch.model, "--version", launch.version),
        *("--batch-rows", str(serving.max_rows), "--batch-delay", str(serving.max_delay)),
        *("--processes", str(serving.processes), "--memory", str(serving.memory)),
    ]
    env = environment(os.environ, scratch_of(launch.socket), os.cpu_count() or 1)
    if launch.python is not None:
        # It would lead to the router's libraries.
        env.pop("PYTHONPATH", None)
    return argv, env


def environment(environ: Mapping[str, str], scratch: Path, cores: int) -> dict[str, str]:
    """What of `environ` a model may see, and what it needs beside that.

    Thread caps that the operator set are kept. Without them a model gets a quarter of the cores: versions share the
    machine with each other and with the router, and a single row gains nothing from a second thread.
    """
    threads = str(max(1, cores // _CORES_PER_THREAD))
    kept = {name: value for name, value in environ.items() if name in _PASSED_ON}
    caps = {name: environ.get(name, threads) for name in _THREAD_CAPS}
    return {
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        **kept,
        **caps,
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def scratch_of(socket: Path) -> Path:
    """The directory that the server on `socket` may write to."""
    return socket.with_name(socket.name + ".home")


def fault_of(socket: Path) -> Path:
    """Where the server for `socket` leaves the JSON of why it could not load its model; absent while all is well."""
    return socket.with_name(socket.name + ".fault")
