"""A model URI, taken apart.

Rules:
1. Four forms and no other: `models:/name/3`, `models:/name@alias`, `models:/m-id`, `runs:/id/path`; what has no scheme
   is a local path.
2. Whatever may mean another model tomorrow without anybody having said so is refused: stages, `latest`, and aliases
   that read like a version number.
3. No part may climb out of its place: no `..`, no control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from router.errors import OperatorError

_FORMS = "write models:/name/3, models:/name@alias, models:/m-id, runs:/id/path, or a local path"
_STAGES = {"production", "staging", "archived", "none"}
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_MODEL_ID = re.compile(r"m-[A-Za-z0-9]+")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ByVersion:
    """`models:/name/3`."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ByAlias:
    """`models:/name@alias`."""

    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class ByModelId:
    """`models:/m-id`, a logged model that needs no registration."""

    model_id: str


@dataclass(frozen=True, slots=True)
class ByRun:
    """`runs:/id/path`: the artifacts that a run logged under `path`."""

    run_id: str
    path: str


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A directory that holds an MLmodel; no registry is asked."""

    path: str


ModelUri = ByVersion | ByAlias | ByModelId | ByRun | LocalPath


def parse(uri: str) -> ModelUri:
    """Takes `uri` apart.

    Raises:
        OperatorError: it has none of the known forms, or one that is refused; the hint says what to write instead.
    """
    if not uri or _CONTROL.search(uri):
        raise OperatorError(f"{uri!r} is not a model URI", hint=_FORMS)
    if uri.startswith("models:"):
        return _registered(uri, _after_slash(uri, "models:"))
    if uri.startswith("runs:"):
        return _of_run(uri, _after_slash(uri, "runs:"))
    if _SCHEME.match(uri):
        raise OperatorError(f"{uri!r} has a scheme that is not known here", hint=_FORMS)
    return LocalPath(uri)


def _after_slash(uri: str, scheme: str) -> str:
    rest = uri.removeprefix(scheme)
    if not rest.startswith("/") or rest.startswith("//"):
        raise OperatorError(f"{uri!r} needs exactly one slash after {scheme!r}", hint=_FORMS)
    return rest[1:]


def _registered(uri: str, rest: str) -> ModelUri:
    name, slash, suffix = rest.partition("/")
    if slash:
        return _by_suffix(uri, name, suffix)
    name, at, alias = rest.rpartition("@")
    if at:
        return _by_alias(uri, name, alias)
    if not _MODEL_ID.fullmatch(rest):
        raise OperatorError(f"{uri!r} names neither a version nor an alias", hint=_FORMS)
    return ByModelId(rest)


def _by_suffix(uri: str, name: str, suffix: str) -> ByVersion:
    _check_name(uri, name)
    if _VERSION.fullmatch(suffix):
        return ByVersion(name, suffix)
    if suffix.lower() in _STAGES:
        raise OperatorError(
            f"{uri!r} names a stage: one global slot per model, deprecated in MLflow, and it cannot differ by region",
            hint=f"name a version (models:/{name}/3) or an alias (models:/{name}@champion)",
        )
    if suffix.lower() == "latest":
        raise OperatorError(
            f"{uri!r} would change with every registration, without anybody having decided it",
            hint=f"name a version (models:/{name}/3) or an alias (models:/{name}@champion)",
        )
    raise OperatorError(
        f"{uri!r}: {suffix!r} is not a version number",
        hint=f"name a version (models:/{name}/3) or an alias (models:/{name}@champion); stages are refused",
    )


def _by_alias(uri: str, name: str, alias: str) -> ByAlias:
    _check_name(uri, name)
    if not _ALIAS.fullmatch(alias):
        raise OperatorError(f"{uri!r}: {alias!r} is not an alias", hint="aliases hold letters, digits, '_' and '-'")
    if alias.isdigit():
        raise OperatorError(
            f"{uri!r} is an alias that reads like a version number",
            hint=f"write models:/{name}/{alias} for version {alias}, or give the alias another name",
        )
    return ByAlias(name, alias)


def _of_run(uri: str, rest: str) -> ByRun:
    run_id, _, path = rest.partition("/")
    if not _RUN_ID.fullmatch(run_id):
        raise OperatorError(f"{uri!r}: {run_id!r} is not a run's id", hint=_FORMS)
    segments = path.split("/")
    if not all(segments) or ".." in segments or "." in segments:
        raise OperatorError(f"{uri!r}: {path!r} is not a path inside the run's artifacts", hint=_FORMS)
    return ByRun(run_id, path)


def _check_name(uri: str, name: str) -> None:
    if not name.strip() or name in {".", ".."}:
        raise OperatorError(f"{uri!r} has no model name", hint=_FORMS)
