"""`canary-router status`: weights declared, effective and observed, and the health of every version.

Rules:
1. One row per model, region and version; a model without a good config has a row too.
2. What is wrong with a config is told below the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from router.cli.client import admin_options, find_router
from router.cli.output import clean, output_option, render

HEADER = ("MODEL", "REGION", "VERSION", "ROLE", "STATE", "DECLARED", "EFFECTIVE", "OBSERVED", "REQUESTS", "FAILURES")


@click.command()
@click.argument("model", required=False)
@output_option
@admin_options
def status(model: str | None, output: str, **where: Any) -> None:
    """Show weights and health of every model, or of MODEL alone.

    DECLARED is what the config says, EFFECTIVE what the next request is drawn from, OBSERVED what the last five
    minutes really got. REQUESTS and FAILURES count over all regions.
    """
    router = find_router(**where)
    path = "/models" if model is None else f"/models/{quote(model, safe='')}"
    data = router.get(path)
    models = data["models"] if model is None else [data]
    rows = [row for entry in models for row in rows_of(entry)]
    click.echo(render(data, HEADER, rows, output))
    if output == "table":
        for line in problems_of(data, models):
            click.echo(clean(line))


def rows_of(model: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """The rows of one model as the API shows it."""
    if not model["regions"]:
        yield (model["model"], "-", "-", "-", "no good config", "-", "-", "-", "-", "-")
    for region, route in model["regions"].items():
        for version in dict.fromkeys((*model["versions"], *route["effective"])):
            known = model["versions"].get(version, {"state": "-", "counts": {}})
            yield (
                model["model"],
                region,
                version,
                _role(route, version),
                known["state"],
                _percent(route["declared"].get(version)),
                _percent(route["effective"].get(version)),
                _percent(route["observed"].get(version)),
                str(sum(known["counts"].values())),
                str(known["counts"].get("failure", 0) + known["counts"].get("fallback", 0)),
            )


def problems_of(data: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong, one line each, with its place."""
    yield from (problem for problem in data.get("problems", ()))
    for model in models:
        for problem in model["config"]["problems"]:
            place = ":".join(str(part) for part in (problem["file"], problem["line"], problem["column"]) if part)
            path = f"{problem['path']}: " if problem["path"] else ""
            yield f"{place}: {path}{problem['message']}"


def _role(route: Mapping[str, Any], version: str) -> str:
    if version == route["stable"]:
        return "stable"
    return "canary" if route["declared"].get(version) else "-"


def _percent(weight: float | None) -> str:
    return "-" if weight is None else f"{weight:g} %"
