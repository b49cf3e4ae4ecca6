"""The reference names every key there is, and its examples are good configs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from router.config.json_schema import KINDS, json_schema
from router.config.load import load_model

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference" / "config.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described(kind: str) -> None:
    schema = json.loads(json_schema(kind))
    keys = {key for part in [schema, *schema.get("$defs", {}).values()] for key in part["properties"]}
    keys -= {key for key in keys if re.search(rf"`[^`]*\b{key}\b[^`]*`", REFERENCE)}
    assert keys == set()


def test_no_row_describes_a_key_that_is_gone() -> None:
    known: set[str] = set()
    for kind in KINDS:
        schema = json.loads(json_schema(kind))
        known |= {key for part in [schema, *schema.get("$defs", {}).values()] for key in part["properties"]}
    rows = set(re.findall(r"^\| `([a-z_0-9]+)` \|", REFERENCE, flags=re.MULTILINE))
    assert rows - known == set()
    assert len(rows) > 25


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", REFERENCE, flags=re.DOTALL))
def test_an_example_is_a_good_config(example: str) -> None:
    name = example.partition("\n")[0].removeprefix("model: ")
    config, problems = load_model(name, example.encode(), file="f", regions=("eu-west", "us-east"))
    assert problems == ()
    assert config is not None
