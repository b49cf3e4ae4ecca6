"""A model's files, brought from wherever its URI says into one directory. Runs in a registry child only.

Rules:
1. Nothing is loaded or unpickled here: bytes are copied and hashed.
2. The files are the model's own: what MLflow's client adds on download is taken out, so that one model has one digest.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from router.errors import OperatorError
from router.registry import files
from router.registry.faults import mapped
from router.registry.lookup import connect
from router.registry.types import Fetched
from router.registry.uri import ByAlias, LocalPath, parse

_ADDED_ON_DOWNLOAD = "registered_model_meta"


def fetch(uri: str, directory: Path, registry: str | None, expected: str = "") -> Fetched:
    """Brings the files of `uri`, of digest `expected` where one is, into `directory`; see `files.keep`.

    Raises:
        OperatorError: the URI is refused, is not pinned, or names nothing; the directory cannot be written.
        UpstreamError: the registry cannot be reached, or what it holds is no model.
    """
    parsed = parse(uri)
    if isinstance(parsed, ByAlias):
        raise OperatorError(f"{uri} is not pinned", hint="resolve it first and fetch what it resolved to")
    local = isinstance(parsed, LocalPath)
    with mapped(uri, None if local else registry):
        if isinstance(parsed, LocalPath):
            return _copied(Path(parsed.path).expanduser().absolute(), directory, expected)
        return files.keep(directory.absolute(), lambda part: _download(uri, part, registry), expected)


def _copied(source: Path, directory: Path, expected: str) -> Fetched:
    if not (source / "MLmodel").is_file():
        raise OperatorError(f"{source} holds no MLmodel file", hint="name the directory that holds the model")
    return files.keep(directory.absolute(), lambda part: _copy(source, part), expected)


def _copy(source: Path, part: Path) -> None:
    files.describe(source)
    shutil.copytree(source, part, symlinks=True)
    (part / _ADDED_ON_DOWNLOAD).unlink(missing_ok=True)


def _download(uri: str, part: Path, registry: str | None) -> None:
    connect(registry, uri)
    from mlflow.artifacts import download_artifacts

    landing = part.with_name(part.name + ".download")
    shutil.rmtree(landing, ignore_errors=True)
    landing.mkdir()
    try:
        # MLflow places a run's artifact below the landing directory, a model's files directly in it.
        found = Path(download_artifacts(artifact_uri=uri, dst_path=str(landing), tracking_uri=registry))
        (found / _ADDED_ON_DOWNLOAD).unlink(missing_ok=True)
        found.rename(part)
    finally:
        shutil.rmtree(landing, ignore_errors=True)
