"""JSON Schemas for editors, made from the models that validation uses.

Rules:
1. A schema accepts what `validate` accepts, as far as a schema can tell; it may accept more, never less.
2. It speaks draft 7, which every editor's YAML support knows.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from router.config.schema import ModelConfig, RegionsFile
from router.config.settings_schema import RouterFile

KINDS: dict[str, tuple[type[BaseModel], str]] = {
    "model": (ModelConfig, "canary-router: models/<model>.yaml"),
    "router": (RouterFile, "canary-router: router.yaml"),
    "regions": (RegionsFile, "canary-router: regions.yaml"),
}
"""Kind of file → what it is read into, and the schema's title."""


def json_schema(kind: str) -> str:
    """The JSON Schema of `kind` (a key of `KINDS`) as text that ends with a line break."""
    model, title = KINDS[kind]
    schema = _plain(model.model_json_schema(mode="validation"))
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def _plain(schema: Any) -> Any:
    """`schema` without made-up titles, and without defaults, which are in units that no operator writes."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if {"type": "null"} in schema.get("anyOf", ()):
        schema = {**schema, **_without_null(schema)}
    if isinstance(found := schema.get("patternProperties"), dict):
        schema = {**schema, **_by_pattern(found)}
    return {key: _plain(part) for key, part in schema.items() if not _is_noise(key, part)}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    rest = [part for part in schema["anyOf"] if part != {"type": "null"}]
    return {"anyOf": None, **rest[0]} if len(rest) == 1 else {"anyOf": rest}


def _by_pattern(properties: dict[str, Any]) -> dict[str, Any]:
    """Names that do not fit are refused, where pydantic's form would let anything stand under them."""
    ((pattern, value),) = properties.items()
    return {"patternProperties": None, "propertyNames": {"pattern": pattern}, "additionalProperties": value}


def _is_noise(key: str, part: object) -> bool:
    return part is None or (key == "title" and isinstance(part, str)) or key == "default" or part == {}
