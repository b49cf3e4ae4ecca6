"""Registers a model that was trained elsewhere, with its lineage. Runs in a registry child only.

Rules:
1. The files are uploaded to a run of their own, which carries the lineage that gates look for: the git commit, the data
   set and its digest, metrics.
2. Nothing of the model is loaded: what holds an MLmodel file is a model.
3. The version carries the SHA-256 over its files as they were brought.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.errors import OperatorError
from router.registry import files
from router.registry.faults import mapped
from router.registry.lookup import connect
from router.registry.types import Brought

_GIT_COMMIT = "mlflow.source.git.commit"
_SHA256 = "canary-router.sha256"
_ARTIFACT = "model"
_KIND = "external"


def register(
    origin: str,
    name: str,
    registry: str | None,
    *,
    git_commit: str,
    dataset: tuple[str, str],
    metrics: Mapping[str, float],
) -> Brought:
    """Registers the model at path or URI `origin` as the next version of `name`; `dataset` is its name and digest.

    Raises:
        OperatorError: there is no model, or no registry is set.
        UpstreamError: the registry or the store of `origin` cannot be reached, or answers nonsense.
    """
    client = connect(registry, name)
    with mapped(origin, registry), tempfile.TemporaryDirectory(prefix="canary-router-") as scratch:
        folder = _files_of(origin, Path(scratch))
        digest = files.describe(folder).digest
        run = client.create_run(_experiment(client, name), run_name=f"brought: {name}")
        run_id = run.info.run_id
        try:
            _tell_lineage(client, run_id, git_commit, dataset, metrics)
            client.log_artifacts(run_id, str(folder), _ARTIFACT)
            version = _version(client, name, run_id, {_SHA256: digest, "canary-router.from": origin})
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        return Brought(name=name, version=version, run_id=run_id, digest=digest)


def _files_of(origin: str, scratch: Path) -> Path:
    folder = Path(origin).expanduser().absolute()
    if "://" in origin or origin.startswith(("models:/", "runs:/")):
        from mlflow.artifacts import download_artifacts

        folder = Path(download_artifacts(artifact_uri=origin, dst_path=str(scratch)))
    if not (folder / "MLmodel").is_file():
        raise OperatorError(
            f"{origin} holds no MLmodel file",
            hint="save the model with MLflow's save_model, which writes one, and name that directory",
        )
    return folder


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _tell_lineage(
    client: Any, run_id: str, git_commit: str, dataset: tuple[str, str], metrics: Mapping[str, float]
) -> None:
    from mlflow.entities import Dataset, DatasetInput

    title, digest = dataset
    client.set_tag(run_id, _GIT_COMMIT, git_commit)
    given = Dataset(name=title, digest=digest, source_type=_KIND, source="{}")
    client.log_inputs(run_id, [DatasetInput(given)])
    for metric, value in metrics.items():
        client.log_metric(run_id, metric, value)


def _version(client: Any, name: str, run_id: str, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{_ARTIFACT}"
    return str(client.create_model_version(name, source, run_id=run_id, tags=tags).version)
