"""router.yaml, environment variables and flags → `Settings`.

Rules:
1. A flag wins over a variable, a variable over the file; a wrong value is a problem even where another one wins.
2. Each problem names its source: file, line and column, or the variable, or the flag; all are told at once.
3. Unknown variables are nobody's business: orchestrators invent some that begin with our prefix.
4. Relative folders start where the router is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from router.config.load import read_file
from router.config.notify_schema import notify_from_text
from router.config.problems import Problem, Report, path_text, printable, quote
from router.config.settings_schema import SINGLE, RouterFile, Settings, Token, is_listening_url
from router.config.shape import message_of, read_shape, read_tree
from router.config.yaml import Map, Node
from router.errors import InternalError, OperatorError

__all__ = ["Settings", "Token", "check_router_file", "load_settings", "variable_of"]

_LISTS = frozenset({"model_sources", "notify", "tokens", "trusted_proxies"})
_BEYOND_FILE = "config"


def variable_of(key: str) -> str:
    """The environment variable that sets `key`: `CANARY_ROUTER_LISTEN`."""
    return f"CANARY_ROUTER_{key.upper()}"


def flag_of(key: str) -> str:
    """The flag that sets `key`: `--drain-delay`."""
    return f"--{key.replace('_', '-')}"


def load_settings(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Everything that was set, and the defaults for what was not.

    Args:
        file: router.yaml; None where there is none.
        environ: the environment.
        flags: values of flags by key (`drain_delay`): text, a path, several texts, or for `listen` addresses by
            region. None and empty ones are not set.

    Raises:
        OperatorError: something is wrong in any source; the message has all of it, with places.
    """
    given: list[_Given] = []
    if file is not None:
        given.append(_from_file(file))
    given.append(_from_texts(_variables(environ), variable_of))
    given.append(_from_texts(_flags(flags), flag_of))
    merged = _Given({}, {}, [])
    for source in given:
        merged.values.update(source.values)
        merged.origins.update(source.origins)
        merged.problems.extend(source.problems)
    problems = merged.problems or _contradictions(merged)
    if problems:
        what = "this setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        raise OperatorError("\n  ".join([f"{what} wrong:", *problems]))
    return _settings(merged.values)


def check_router_file(path: Path) -> tuple[Problem, ...]:
    """What is wrong with the router.yaml at `path`."""
    return _read(path)[2]


class _Given(NamedTuple):
    """What sources say: values by key, where each was set, and what is wrong."""

    values: dict[str, Any]
    origins: dict[str, str]
    problems: list[str]


def _read(path: Path) -> tuple[RouterFile | None, Node | None, tuple[Problem, ...]]:
    report = Report(str(path))
    try:
        text = read_file(path)
    except OSError as error:
        report.add(1, 1, (), f"cannot be read: {(error.strerror or str(error)).lower()}")
        return None, None, report.problems()
    tree = read_tree(text, report, may_be_empty=True)
    found = read_shape(RouterFile, tree, report, later="router") if tree is not None else None
    return found, tree, report.problems()


def _from_file(path: Path) -> _Given:
    found, tree, problems = _read(path)
    if found is None or problems or not isinstance(tree, Map):
        return _Given({}, {}, list(map(str, problems)))
    values = {key: getattr(found, key) for key in found.model_fields_set}
    keys = {key: entry.key for key, entry in tree.entries.items()}
    origins = {key: f"{printable(str(path))}:{at.line}:{at.column}: {key}" for key, at in keys.items()}
    return _Given(values, origins, [])


def _variables(environ: Mapping[str, str]) -> dict[str, object]:
    found = {key: environ.get(variable_of(key)) for key in (*RouterFile.model_fields, _BEYOND_FILE)}
    # The same variable tells commands which router to talk to, as a URL that need not be one to listen on.
    if "://" in (found["admin"] or "") and not is_listening_url(found["admin"] or ""):
        found["admin"] = None
    return {key: value for key, value in found.items() if value}


def _flags(flags: Mapping[str, object]) -> dict[str, object]:
    for key in flags:
        if key not in RouterFile.model_fields and key != _BEYOND_FILE:
            raise InternalError(f"there is no setting {key!r} for a flag to set")
    return {key: value for key, value in flags.items() if value not in (None, (), [], {})}


def _from_texts(texts: Mapping[str, object], name_of: Callable[[str], str]) -> _Given:
    given = _Given({}, {key: name_of(key) for key in texts}, [])
    read: dict[str, object] = {}
    for key, value in texts.items():
        try:
            read[key] = _understood(key, value)
        except ValueError as error:
            given.problems.append(f"{name_of(key)}: {error}")
    if _BEYOND_FILE in read:
        given.values[_BEYOND_FILE] = Path(str(read.pop(_BEYOND_FILE)))
    try:
        found = RouterFile.model_validate(read)
    except ValidationError as wrong:
        given.problems.extend(map(partial(_told, name_of), wrong.errors(include_url=False, include_input=False)))
    else:
        given.values.update({key: getattr(found, key) for key in found.model_fields_set})
    return given


def _told(name_of: Callable[[str], str], detail: ErrorDetails) -> str:
    key, *inside = detail["loc"]
    path = path_text(part for part in inside if part not in (SINGLE, "[key]"))
    return (
        f"{name_of(str(key))}: {path}: {message_of(detail)}" if path else f"{name_of(str(key))}: {message_of(detail)}"
    )


def _understood(key: str, value: object) -> object:
    """A variable's or flag's value in the shape that router.yaml has for `key`."""
    if isinstance(value, Mapping):
        return dict(value)
    texts = [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
    if key in _LISTS:
        parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
        return [_ENTRIES[key](part) for part in parts] if key in _ENTRIES else parts
    if key == "listen" and (len(texts) > 1 or "=" in texts[0]):
        return _listeners(part.strip() for text in texts for part in text.split(","))
    return texts[-1]


def _listeners(parts: Iterable[str]) -> dict[str, str]:
    listen: dict[str, str] = {}
    for part in parts:
        region, equals, address = part.partition("=")
        if not equals or not region:
            raise ValueError(f"{quote(part)} names no region; several listeners are eu-west=0.0.0.0:8080,us-east=…")
        if region in listen:
            raise ValueError(f"region {quote(region)} is there twice")
        listen[region] = address
    return listen


def _token(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError("a token is written NAME:ROLE:SHA256, several with commas between")
    return dict(zip(("name", "role", "sha256"), parts, strict=True))


_ENTRIES: Mapping[str, Callable[[str], object]] = {"notify": notify_from_text, "tokens": _token}
"""How one entry of a list is read from a variable's text, where it is more than that text."""


def _contradictions(given: _Given) -> list[str]:
    """What is wrong although each value by itself is right."""
    found: list[str] = []
    values, origins = given.values, given.origins
    if "region" in values and SINGLE not in values.get("listen", {SINGLE: ""}):
        found.append(f"{origins['region']}: is for a single listener, and {origins['listen']} names regions itself")
    defaults = RouterFile()
    listen, admin = values.get("listen", defaults.listen), values.get("admin", defaults.admin)
    if admin in listen.values() and not admin.endswith(":0"):
        first, second = (origins.get(key, f"{key} (by default)") for key in ("admin", "listen"))
        found.append(f"{first}: {second} has the same address; each needs a port of its own")
    return found


def _settings(values: dict[str, Any]) -> Settings:
    defaults = RouterFile()
    region = values.pop("region", defaults.region)
    listen = values.pop("listen", defaults.listen)
    state = values.pop("state", defaults.state)
    config = values.pop(_BEYOND_FILE, None)
    return Settings(
        listen={name or region: address for name, address in listen.items()},
        state=state.absolute(),
        config=config.absolute() if config is not None else None,
        **values,
    )
