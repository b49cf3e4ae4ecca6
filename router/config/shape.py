"""Trees → frozen models, and every departure from their shape as a problem at its place.

Rules:
1. Which keys there are and what they hold follows from the pydantic model alone; the words are ours.
2. What YAML refused already (`Broken`) is not complained about again.
3. A key that a later release acts on is refused as such, never taken for a spelling mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from router.config.problems import Report, did_you_mean
from router.config.yaml import EMPTY, Broken, List, Map, Node, Text, Tree, parse

M = TypeVar("M", bound=BaseModel)

LATER = {
    "model": frozenset({"git"}),
    "router": frozenset({"branch", "git", "path"}),
}
"""Keys at the top of a file, by kind of file, that this release does not act on."""

_KEY = "[key]"
_EXPECTED = {
    "string_type": "text",
    "path_type": "text",
    "int_type": "a single value",
    "float_type": "a single value",
    "bool_type": "a single value",
    "dict_type": "a map",
    "model_type": "a map",
    "tuple_type": "a list",
}
_WORDS = {
    "missing": "this key is missing",
    "too_short": "is empty; it needs at least one entry",
    "too_long": "has too many entries; at most {max_length}",
}
_FOLLOWS_FROM_ANOTHER = "default_factory_not_called"


def read_tree(data: bytes, report: Report, *, may_be_empty: bool = False) -> Node | None:
    """The tree of one file; its flaws go to `report`. None where the file as a whole cannot be read.

    `may_be_empty`: a file without any value is a map without any key.
    """
    tree: Tree = parse(data)
    if may_be_empty and [flaw.message for flaw in tree.flaws] == [EMPTY]:
        return Map({}, 1, 1)
    for flaw in tree.flaws:
        report.add(flaw.line, flaw.column, flaw.path, flaw.message)
    return tree.root


def read_shape(kind: type[M], root: Node, report: Report, *, folder: Path | None = None, later: str = "") -> M | None:
    """What `root` says as a `kind`, or None; why not goes to `report`.

    Args:
        kind: the pydantic model.
        root: the tree of the file.
        report: gets the problems.
        folder: absolute; where relative paths in the file start.
        later: the kind of file in `LATER`.
    """
    if not isinstance(root, Map):
        report.add(root.line, root.column, (), f"the file must hold a map of keys, not {_what(root)}")
        return None
    try:
        return kind.model_validate(plain(root), context={"root": folder})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    for detail in details:
        if report.full:
            report.cut(root.line, root.column)
            break
        _tell(kind, root, detail, report, LATER.get(later, frozenset()))
    return None


def plain(node: Node) -> Any:
    """`node` as dict, list and str. A `Broken` stays what it is, which no field accepts."""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Map):
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, List):
        return [plain(item) for item in node.items]
    return node


class _Place(NamedTuple):
    """Where a complaint points: the `key` (None at the top) and value `node` that its location leads to."""

    path: tuple[str | int, ...]
    key: Text | None
    node: Node


def _tell(kind: type[BaseModel], root: Map, detail: ErrorDetails, report: Report, later: frozenset[str]) -> None:
    location = detail["loc"]
    path, key, node = _locate(root, location)
    if detail["type"] == _FOLLOWS_FROM_ANOTHER or isinstance(node, Broken):
        return
    if detail["type"] == "missing":
        path = (*path, location[-1])
    unknown = detail["type"] == "extra_forbidden"
    at = key if key and (unknown or location[-1] == _KEY) else node
    message = _unknown(kind, location, later) if unknown else _message(detail, node)
    report.add(at.line, at.column, path, message)


def _locate(root: Map, location: tuple[str | int, ...]) -> _Place:
    """Follows pydantic's location. Parts that only stand for a short form (a name for a map) lead nowhere."""
    place = _Place((), None, root)
    for part in location:
        path, _, node = place
        if isinstance(node, Map) and (entry := node.entries.get(str(part))):
            place = _Place((*path, str(part)), entry.key, entry.value)
        elif isinstance(node, List) and isinstance(part, int):
            place = _Place((*path, part), None, node.items[part])
    return place


def _unknown(kind: type[BaseModel], location: tuple[str | int, ...], later: frozenset[str]) -> str:
    *above, key = map(str, location)
    if not above and key in later:
        return "this key is not acted on by this release; leave it out"
    known = kind
    for part in above:
        if field := known.model_fields.get(part):
            known = _model_in(field.annotation) or known
    return f"unknown key{did_you_mean(key, known.model_fields)}"


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _message(detail: ErrorDetails, node: Node) -> str:
    if expected := _EXPECTED.get(detail["type"]):
        return f"must be {expected}, not {_what(node)}"
    return message_of(detail)


def message_of(detail: ErrorDetails) -> str:
    """What pydantic complains about, in our words where we have some."""
    context: Mapping[str, Any] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    words = _WORDS.get(detail["type"])
    return words.format(**context) if words else detail["msg"]


def _what(node: Node) -> str:
    if isinstance(node, Text):
        # The text itself stays untold: where a map is expected it may be a secret in the wrong place.
        return "text" if node.text else "empty"
    return "a map" if isinstance(node, Map) else "a list"
