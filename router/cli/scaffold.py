"""The files of a first repository of configs, as text.

Rules:
1. Every comment says what to write next, in words that the reference has.
2. Text of a registry is quoted wherever it lands: in YAML as a JSON string, which it is part of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.cli.mlflow_api import Registered
from router.config.json_schema import KINDS, json_schema
from router.config.problems import printable
from router.config.uris import check_uri

_REPOSITORY = "https://github.com/canary-router/canary-router"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(:/[A-Za-z0-9._/-]+)?")


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What to write, by path, and what to tell."""

    files: Mapping[str, str]
    remarks: tuple[str, ...] = ()


_MODEL = """\
# yaml-language-server: $schema=../schema/model.schema.json
#
# A pull request against this file is the deploy. `canary-router validate` says whether it may go in,
# `canary-router plan --against origin/main` what it does to traffic.
model: {name}
owner: {owner}
{description}
versions:
{versions}
stable: {stable}            # takes what canaries may not have

# Percent; each line sums to 100. A canary gets a few at first, such as {{{stable}: 90, next: 10}}.
regions:
  default: {{{stable}: 100}}

# The same user gets the same version: name the header that tells users apart, and take the '#' away.
# stickiness: {{header: x-user-id}}
"""

_REGIONS = """\
# yaml-language-server: $schema=schema/regions.schema.json
# The regions there are. Another name under `regions` in a model's config is an error because of this file.
regions: [default]
"""

_ROUTER = """\
# yaml-language-server: $schema=schema/router.schema.json
# How a router runs that serves this folder: canary-router serve --config config
listen: 0.0.0.0:8080
admin: 127.0.0.1:9090
{registry}
"""

_PRE_COMMIT = f"""\
repos:
  - repo: {_REPOSITORY}
    rev: v0.1.0
    hooks:
      - id: canary-router-validate
"""

_WORKFLOW = """\
name: canary-router
on:
  pull_request:
    paths: [config/**]
permissions:
  contents: read
  pull-requests: write
jobs:
  plan:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0}
      - uses: canary-router/canary-router/deploy/ci@v0.1.0
        with: {config: config}
"""

_CODEOWNERS = """\
# Who must approve a change of a model's traffic. One line per model, its team behind it:
# /config/models/fraud-classifier.yaml  @your-org/risk-ml
# /config/router.yaml                   @your-org/ml-platform
"""


def example_files() -> Scaffold:
    """A repository with one model that runs elsewhere."""
    versions = "  v1:\n    upstreams: [http://127.0.0.1:5001]      # a server that already runs\n"
    versions += "  # v2: {model_uri: models:/example/2}        # or load one from the MLflow registry\n"
    text = _model("example", "your-team", "An example: the file's name is the model's name.", versions, "v1")
    return Scaffold(_around({"config/models/example.yaml": text}, None))


def model_files(registry: str, found: Iterable[Registered]) -> Scaffold:
    """A repository with every model of `found` that can be named and has a version; the rest is remarked upon."""
    files: dict[str, str] = {}
    remarks: list[str] = []
    for model in found:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip("-._")[:120]
        path = f"config/models/{name}.yaml"
        uri = f"models:/{model.name}/{model.version}"
        if not model.version:
            remarks.append(f"left out {printable(model.name)}: it has no version that is ready")
        elif not name or path in files or not _is_uri(uri):
            remarks.append(f"left out {printable(model.name)}: no config can have that name beside the others")
        else:
            versions = f"  v{model.version}: {{model_uri: {_quoted(uri)}}}        # {model.reason}\n"
            about = model.description.strip() or f"Registered in MLflow as {model.name}."
            files[path] = _model(name, "your-team", about, versions, f"v{model.version}")
    if not files:
        return Scaffold(_around(example_files().files, registry), (*remarks, "the registry has no model to begin with"))
    return Scaffold(_around(files, registry), tuple(remarks))


def _is_uri(text: str) -> bool:
    try:
        return bool(check_uri(text))
    except ValueError:
        return False


def _model(name: str, owner: str, description: str, versions: str, stable: str) -> str:
    about = " ".join("".join(c if c.isprintable() else " " for c in description).split())[:200]
    line = f"description: {json.dumps(about, ensure_ascii=False)}"
    return _MODEL.format(name=_quoted(name), owner=owner, description=line, versions=versions, stable=stable)


def _quoted(text: str) -> str:
    """`text` as YAML text: quoted, unless it can be nothing but text."""
    return text if _PLAIN.fullmatch(text) and not text.isdigit() else json.dumps(text, ensure_ascii=False)


def _around(models: Mapping[str, str], registry: str | None) -> dict[str, str]:
    line = f"registry: {registry}" if registry else "# registry: http://mlflow.internal:5000"
    schemas = {f"config/schema/{kind}.schema.json": json_schema(kind) for kind in KINDS}
    return {
        **models,
        "config/regions.yaml": _REGIONS,
        "config/router.yaml": _ROUTER.format(registry=line),
        **schemas,
        ".pre-commit-config.yaml": _PRE_COMMIT,
        ".github/workflows/canary-router.yml": _WORKFLOW,
        ".github/CODEOWNERS": _CODEOWNERS,
    }
