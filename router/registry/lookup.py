"""A model URI to its pinned form and its lineage, asked of MLflow. Runs in a registry child only.

Rules:
1. What can move is pinned here and now: an alias to its version, a version to its source.
2. Lineage is told as it is found; what the registry does not know stays empty, and a gate decides what that means.
3. A version that the registry itself calls unfinished or failed is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from router.errors import OperatorError, UpstreamError
from router.registry.faults import mapped
from router.registry.redact import without_credentials
from router.registry.types import Dataset, Resolved
from router.registry.uri import ByAlias, ByModelId, ByRun, ByVersion, LocalPath, parse

_GIT_COMMIT = "mlflow.source.git.commit"
_READY = "READY"
_GENERIC_FLAVOR = "python_function"
_LISTED_VERSIONS = 10


def resolve(uri: str, registry: str | None) -> Resolved:
    """Pins `uri` and gathers its lineage.

    Raises:
        OperatorError: the URI is refused, names nothing, or needs a registry and none is set.
        UpstreamError: the registry cannot be reached, or answers nonsense.
    """
    match parse(uri):
        case LocalPath(path):
            with mapped(uri, None):
                return _local(uri, path)
        case ByRun(run_id, path):
            with mapped(uri, registry):
                return _of_run(uri, run_id, path, registry)
        case ByModelId(model_id):
            with mapped(uri, registry):
                return _logged(uri, model_id, registry)
        case ByVersion(name, version):
            with mapped(uri, registry):
                return _registered(uri, name, version, registry)
        case ByAlias(name, alias):
            with mapped(uri, registry):
                return _registered(uri, name, _version_of_alias(uri, name, alias, registry), registry)


def connect(registry: str | None, uri: str) -> Any:
    """An MLflow client of `registry`, which also becomes the place that MLflow's own functions ask.

    Raises:
        OperatorError: no registry is set, or it is not one that can be asked over the network.
    """
    if not registry:
        raise OperatorError(
            f"{uri} needs an MLflow registry and none is set",
            hint="set `registry` in router.yaml, --registry or CANARY_ROUTER_REGISTRY to the URL of an MLflow server",
        )
    if not registry.startswith(("http://", "https://", "databricks")):
        raise OperatorError(
            f"{uri} needs a registry over HTTP; this one is not: {registry.partition(':')[0]}:",
            hint="run `mlflow server --backend-store-uri …` on that store and name its URL",
        )
    import mlflow

    mlflow.set_tracking_uri(registry)
    mlflow.set_registry_uri(registry)
    return mlflow.MlflowClient(registry, registry)


def _local(uri: str, path: str) -> Resolved:
    directory = Path(path).expanduser().absolute()
    if not (directory / "MLmodel").is_file():
        raise OperatorError(f"{directory} holds no MLmodel file", hint="name the directory that holds the model")
    from mlflow.models import Model

    model = Model.load(str(directory))
    return Resolved(
        uri=uri,
        resolved=str(directory),
        source=str(directory),
        run_id=model.run_id or "",
        model_id=model.model_id or "",
        signature=model.signature is not None,
        flavor=_flavor(model.flavors),
    )


def _registered(uri: str, name: str, version: str, registry: str | None) -> Resolved:
    client = connect(registry, uri)
    found = _version(client, uri, name, version)
    _expect((name, version), (found.name, str(found.version)), uri, registry)
    if found.status != _READY:
        raise UpstreamError(
            f"{uri}: the registry says that version {version} is {found.status}, not {_READY}",
            hint="wait until its registration has finished, or register it anew",
        )
    pinned = f"models:/{name}/{version}"
    info = _model_info(found.source if _is_uri(found.source) else pinned)
    return _with_lineage(
        client,
        run_id=found.run_id or info.run_id or "",
        tags=found.tags,
        uri=uri,
        resolved=pinned,
        source=found.source,
        name=name,
        version=version,
        info=info,
        made_at=found.creation_timestamp,
    )


def _logged(uri: str, model_id: str, registry: str | None) -> Resolved:
    client = connect(registry, uri)
    found = client.get_logged_model(model_id)
    _expect(model_id, found.model_id, uri, registry)
    if str(found.status) != _READY:
        raise UpstreamError(
            f"{uri}: the registry says that this model is {found.status}, not {_READY}",
            hint="its logging has not finished, or failed; log it anew",
        )
    pinned = f"models:/{model_id}"
    return _with_lineage(
        client,
        run_id=found.source_run_id or "",
        tags=found.tags,
        uri=uri,
        resolved=pinned,
        source=pinned,
        name="",
        version="",
        info=_model_info(pinned),
        made_at=found.creation_timestamp,
    )


def _of_run(uri: str, run_id: str, path: str, registry: str | None) -> Resolved:
    client = connect(registry, uri)
    _expect(run_id, client.get_run(run_id).info.run_id, uri, registry)
    pinned = f"runs:/{run_id}/{path}"
    info = _model_info(pinned)
    return _with_lineage(
        client,
        run_id=run_id,
        tags={},
        uri=uri,
        resolved=pinned,
        source=f"models:/{info.model_id}" if info.model_id else pinned,
        name="",
        version="",
        info=info,
        made_at=None,
    )


def _with_lineage(
    client: Any,
    *,
    run_id: str,
    tags: dict[str, str],
    uri: str,
    resolved: str,
    source: str,
    name: str,
    version: str,
    info: Any,
    made_at: int | None,
) -> Resolved:
    run = _run(client, run_id)
    run_tags = dict(run.data.tags) if run else {}
    return Resolved(
        uri=uri,
        resolved=resolved,
        source=source,
        name=name,
        version=version,
        run_id=run_id,
        model_id=info.model_id or "",
        tags=_texts(run_tags | dict(tags)),
        metrics={key: float(value) for key, value in run.data.metrics.items()} if run else {},
        git_commit=run_tags.get(_GIT_COMMIT, ""),
        datasets=_datasets(run.inputs.dataset_inputs) if run and run.inputs else [],
        signature=info.signature is not None,
        flavor=_flavor(info.flavors),
        created_at=_earliest(made_at, run.info.start_time if run else None),
        run_status=str(run.info.status) if run else "",
    )


def _earliest(*milliseconds: int | None) -> float:
    return min((each / 1000 for each in milliseconds if each), default=0.0)


def _version(client: Any, uri: str, name: str, version: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = _known_versions(client, name)
        there = f"its versions are {', '.join(known)}" if known else f"no model is registered as {name!r}"
        raise OperatorError(f"{uri}: the registry has no such version", hint=there) from fault


def _expect(asked: object, told: object, uri: str, registry: str | None) -> None:
    """MLflow's client fills an answer that says nothing with empty values, and takes any for what it asked."""
    if asked != told:
        raise UpstreamError(
            f"{uri}: the registry at {without_credentials(registry or '')} gave an answer that cannot be used: "
            f"asked for {asked}, told of {told}",
            hint="check that `registry` in router.yaml names an MLflow server",
        )


def _known_versions(client: Any, name: str) -> list[str]:
    quoted = name.replace("'", "''")
    found = client.search_model_versions(f"name = '{quoted}'", max_results=_LISTED_VERSIONS)
    return sorted((str(each.version) for each in found), key=int)


def _version_of_alias(uri: str, name: str, alias: str, registry: str | None) -> str:
    from mlflow.exceptions import MlflowException

    client = connect(registry, uri)
    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as fault:
        if fault.error_code not in {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}:
            raise
        raise OperatorError(f"{uri}: the registry has no such alias", hint=_known_aliases(client, name)) from fault


def _known_aliases(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        aliases = sorted(client.get_registered_model(name).aliases)
    except MlflowException:
        return f"no model is registered as {name!r}"
    return f"its aliases are {', '.join(aliases)}" if aliases else "the model has no aliases; name a version"


def _run(client: Any, run_id: str) -> Any:
    """The run, or nothing where the registry does not have it (any more): its lineage is then simply not known."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        return client.get_run(run_id)
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _model_info(source: str) -> Any:
    from mlflow.exceptions import MlflowException
    from mlflow.models import get_model_info

    try:
        return get_model_info(source)
    except MlflowException as fault:
        if "MLmodel" not in str(fault):
            raise
        raise UpstreamError(
            f"{source}: its artifacts hold no MLmodel file that could be read",
            hint="check that the artifact store still has the model's files, or log the model again",
        ) from fault


def _datasets(inputs: Iterable[Any]) -> list[Dataset]:
    return [Dataset(name=each.dataset.name or "", digest=each.dataset.digest or "") for each in inputs]


def _texts(tags: dict[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in tags.items()}


def _flavor(flavors: dict[str, Any]) -> str:
    specific = [name for name in flavors if name != _GENERIC_FLAVOR]
    return specific[0] if specific else next(iter(flavors), "")


def _is_uri(source: str) -> bool:
    return source.startswith("models:/")
