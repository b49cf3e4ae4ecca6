"""A real MLflow server on this machine, as another process.

Rules:
1. Tracking data in SQLite and artifacts in a directory, both under one root, so that the next start finds them again.
2. Loopback only, one worker, no jobs: it is up within seconds.
3. Nothing here imports MLflow.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(root: Path, port: int) -> list[str]:
    """The argument vector of a server that keeps its data under `root` and listens on 127.0.0.1:`port`."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{root.absolute() / 'mlflow.db'}"),
        *("--artifacts-destination", str(root.absolute() / "artifacts")),
    ]


def environment() -> dict[str, str]:
    """Its environment: ours, less what would send it elsewhere; its job runner off, which takes a minute to start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
