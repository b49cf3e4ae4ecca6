"""The JSON Schemas that editors use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it publishes no types
import pytest
import yaml

from router.config.json_schema import KINDS, json_schema
from tests.unit.config.test_load import GOOD, problems_of

REPOSITORY = Path(__file__).parents[3] / "config"


def errors(kind: str, text: str) -> list[str]:
    """What an editor would underline in `text`. Editors read YAML 1.2, where on and yes are text: not needed here."""
    validator = jsonschema.Draft7Validator(json.loads(json_schema(kind)))
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_committed_schema_is_current(kind: str) -> None:
    committed = (REPOSITORY / "schema" / f"{kind}.schema.json").read_text(encoding="utf-8")
    assert committed == json_schema(kind), f"run: canary-router schema {kind} > config/schema/{kind}.schema.json"


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_and_describes_every_key(kind: str) -> None:
    schema = json.loads(json_schema(kind))
    jsonschema.Draft7Validator.check_schema(schema)
    for part in [schema, *schema.get("$defs", {}).values()]:
        assert part["additionalProperties"] is False
        assert all(field["description"] for field in part["properties"].values())


@pytest.mark.parametrize(
    ("kind", "name"), [("model", "models/breast-cancer.yaml"), ("regions", "regions.yaml"), ("router", "router.yaml")]
)
def test_the_example_repository_fits_the_schemas_it_names(kind: str, name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert errors(kind, text) == []
    path = text.partition("\n")[0].partition("$schema=")[2]
    assert ((REPOSITORY / name).parent / path).resolve() == REPOSITORY / "schema" / f"{kind}.schema.json"


@pytest.mark.parametrize(
    "more",
    [
        "regions: {default: {v3: 33.33, v4: 66.67%}}",
        "regions: {default: {v3: 0, v4: '100'}}",
        "stable: {default: v3, eu-west: v4}",
        "timeout: 250ms",
        "max_body: 1B\nbuffer: 0",
        "idempotent: true\nfallback: stable",
        "allow_override: 'true'",
        "stickiness: {cookie: uid}",
        "guards: {}",
        "guards: {false_alarm: 1, errors: {}, latency: {p99.9: 1x stable}, error_rate: {max: 50%}}",
        "rollout: {canary: v4, steps: [{weight: 1}, {weight: '2.5%', hold: 10m, approval: true}]}\nregions: {}",
        "rollout: {canary: v4, steps: [{weight: 1}], promote_when: {confidence: 99, min_requests: 7}}\nregions: {}",
        "rollout: {canary: v4, regions: [eu-west], steps: [{weight: 1}], inconclusive_after: 1h}\nregions: {}",
    ],
)
def test_what_validate_accepts_an_editor_accepts(more: str) -> None:
    keys: dict[str, Any] = yaml.safe_load(more)
    kept = "\n".join(part for part in blocks(GOOD) if part.partition(":")[0] not in {*keys, "fallback"})
    text = f"{kept}\n{more}\n"
    assert problems_of(text) == []
    assert errors("model", text) == []


def blocks(text: str) -> list[str]:
    """The top-level keys of `text`, each with all of its lines."""
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith(" "):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("owner:", "owmer:"),
        ("v4: 10}", "v4: 0.1}"),
        ("timeout: 2s", "timeout: 2"),
        ("timeout: 2s", "rollout: {}"),
        ("timeout: 2s", "rollout: {canary: v4, steps: []}"),
        ("timeout: 2s", "rollout: {canary: v5, regions: [], steps: [{weight: 10}]}"),
        ("timeout: 2s", "guards: {false_alarm: 0.1}"),
        ("timeout: 2s", "guards: {errors: {at_most: 1.25}}"),
        ("timeout: 2s", "guards: {errors: {ignore_below: 0.1%}}"),
        ("timeout: 2s", "guards: {latency: {p42: 2x stable}}"),
        ("timeout: 2s", "guards: {latency: {p50: 2x stable, p95: 2x stable}}"),
        ("timeout: 2s", "guards: {latency: {}}"),
        ("timeout: 2s", "gates: {}"),
        ("stable: v3", "stable: {eu-west: v3}"),
        ("    registered:", "    model_uri:"),
        ("{header: x-customer-id}", "{header: a, cookie: b}"),
        ("  v3:\n", "  v 3:\n"),
        ("fallback: stable", "fallback: v3"),
        ("[http://fraud-v4:8080]", "[fraud-v4:8080]"),
    ],
)
def test_an_editor_underlines_what_a_schema_can_see(old: str, new: str) -> None:
    assert errors("model", GOOD) == []
    assert errors("model", GOOD.replace(old, new))
    assert problems_of(GOOD.replace(old, new))
