"""Where a model comes from: the forms of `model_uri` and `registered`.

Rules:
1. Allowed: `models:/name/3`, `models:/name@alias`, `models:/m-id`, `runs:/id/path`, and a local path.
2. Refused with the reason: stages, `latest`, aliases that look like versions, other schemes.
3. A relative path starts at the folder of the config repository, wherever the router was started.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from router.config.problems import quote

_FORMS = "write models:/name/3, models:/name@alias, models:/m-id, runs:/id/path or a path"
_STAGES = frozenset({"production", "staging", "archived", "none"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_REGISTERED_NAME = re.compile(r"[^/:@]{1,256}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_LOGGED_MODEL = re.compile(r"m-[A-Za-z0-9]+")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MISSING_COLON = re.compile(r"(models?|runs?)/")


def check_uri(text: str) -> str:
    """A model URI or a local path, as written.

    Raises:
        ValueError: it is neither, or it names something that moves by itself; the message says what to write.
    """
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError(f"{quote(text)} is not a model URI; {_FORMS}")
    if text.startswith("models:"):
        _check_models(text, _after_slash(text, "models:"))
    elif text.startswith("runs:"):
        _check_run(text, _after_slash(text, "runs:"))
    elif scheme := _SCHEME.match(text):
        raise ValueError(f"{quote(scheme[0])} is not a scheme that is known here; {_FORMS}")
    else:
        _check_path(text)
    return text


def anchored(text: str, root: Path | None) -> str:
    """`text`, made absolute where it is a relative path and `root` (absolute) is known."""
    if root is None or _SCHEME.match(text) or text.startswith("/"):
        return text
    return os.path.normpath(root / text)


def _after_slash(text: str, scheme: str) -> str:
    rest = text.removeprefix(scheme)
    if not rest.startswith("/") or rest.startswith("//"):
        raise ValueError(f"needs one slash after '{scheme}' and no host: which registry it is, is a setting; {_FORMS}")
    return rest[1:]


def _check_models(text: str, rest: str) -> None:
    name, slash, version = rest.partition("/")
    if slash:
        _check_version(name, version)
        return
    name, at, alias = rest.rpartition("@")
    if at:
        _check_alias(name, alias)
    elif not _LOGGED_MODEL.fullmatch(rest):
        raise ValueError(f"{quote(text)} names no version; write {text}/3 or {text}@alias")


def _check_version(name: str, version: str) -> None:
    _check_registered_name(name)
    if _VERSION.fullmatch(version):
        return
    remedy = f"name a version (models:/{name}/3) or an alias (models:/{name}@champion)"
    if version.lower() in _STAGES:
        raise ValueError(
            f"{quote(version)} is a stage: one global slot for all regions, deprecated in MLflow; {remedy}"
        )
    if version.lower() == "latest":
        raise ValueError(f"'latest' changes with every registration, decided by nobody; {remedy}")
    raise ValueError(f"{quote(version)} is not a version number, and stages are refused; {remedy}")


def _check_alias(name: str, alias: str) -> None:
    _check_registered_name(name)
    if not _ALIAS.fullmatch(alias):
        raise ValueError(f"{quote(alias)} is not an alias: letters, digits, '_' and '-'")
    if alias.isdigit():
        raise ValueError(
            f"alias {quote(alias)} looks like version {alias} and need not be it; "
            f"write models:/{name}/{alias} for the version, or rename the alias"
        )


def _check_registered_name(name: str) -> None:
    if not _REGISTERED_NAME.fullmatch(name) or name in {".", ".."} or not name.strip():
        raise ValueError(f"{quote(name)} is not the name of a registered model; {_FORMS}")


def _check_run(text: str, rest: str) -> None:
    run, _, path = rest.partition("/")
    segments = path.split("/")
    if not _RUN.fullmatch(run) or not all(segments) or {".", ".."} & set(segments):
        raise ValueError(f"{quote(text)} must be runs:/, the run's id, and a path inside its artifacts")


def _check_path(text: str) -> None:
    if found := _MISSING_COLON.match(text):
        scheme = found[1].rstrip("s") + "s"
        meant = f"{scheme}:/{text[found.end() :]}"
        raise ValueError(
            f"a path or a URI? (did you mean {quote(meant)}?) Write './{printable_head(text)}' for the path"
        )
    if text.startswith("~"):
        raise ValueError("'~' means another folder for each user; write the whole path")
    if "/" not in text and not text.startswith("."):
        raise ValueError(
            f"{quote(text)} is not a model URI; {_FORMS} (./{printable_head(text)} for a folder beside models/)"
        )


def printable_head(text: str) -> str:
    """The beginning of `text`, short enough for a message; `text` is printable already."""
    return text[:40]
