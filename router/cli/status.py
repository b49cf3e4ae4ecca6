"""`canary-router status`: weights declared, effective and observed, and the health of every version.

Rules:
1. One row per model, region and version; a model without a good config has a row too.
2. What the evidence says of each canary, and what is wrong with a config, is told below the rows.
3. `--watch` shows it anew as it changes: in place on a terminal; elsewhere whole, with the time, and only if something
   changed. A router that is away is waited for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from router.cli.client import AdminClient, admin_options, find_router
from router.cli.output import clean, output_option, render
from router.cli.watching import follow
from router.core.rollout_words import span
from router.errors import UpstreamError

HEADER = (
    "MODEL", "REGION", "VERSION", "ROLE", "STATE", "DECLARED", "EFFECTIVE", "OBSERVED", "REQUESTS", "FAILURES",
    "ROLLOUT",
)  # fmt: skip


@click.command()
@click.argument("model", required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it anew as it changes, until interrupted.")
@click.option(
    "--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
@output_option
@admin_options
def status(model: str | None, watch: bool, every: float, output: str, **where: Any) -> None:
    """Show weights and health of every model, or of MODEL alone.

    DECLARED is what the config or the rollout says, EFFECTIVE what the next request is drawn from, OBSERVED what the
    last five minutes really got. REQUESTS and FAILURES count over all regions.
    """
    router = find_router(**where)
    if watch:
        follow(lambda: _patient(router, model, output), every, sys.stdout)
    else:
        click.echo(shown(router, model, output))


def shown(router: AdminClient, model: str | None, output: str) -> str:
    """What there is now, as text."""
    path = "/models" if model is None else f"/models/{quote(model, safe='')}"
    data = router.get(path)
    models = data["models"] if model is None else [data]
    rows = [row for entry in models for row in rows_of(entry)]
    text = render(data, HEADER, rows, output)
    if output != "table":
        return text
    return "\n".join([text, *map(clean, verdicts_of(models)), *map(clean, problems_of(data, models))])


def _patient(router: AdminClient, model: str | None, output: str) -> str:
    try:
        return shown(router, model, output)
    except UpstreamError as error:
        return f"{datetime.now(UTC):%H:%M:%S}Z {error.message}"


def rows_of(model: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """The rows of one model as the API shows it."""
    if not model["regions"]:
        yield (model["model"], "-", "-", "-", "no good config", "-", "-", "-", "-", "-", "-")
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
                _rollout(known.get("rollout")),
            )


def _rollout(rollout: Mapping[str, Any] | None) -> str:
    if not rollout or not rollout["steps"]:
        return "-"
    step = f"{rollout['phase'].replace('_', ' ')}, step {rollout['step']} of {rollout['steps']}"
    return f"{step}, {span(rollout['countdown'])} left" if rollout["countdown"] else step


def verdicts_of(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the evidence says of each canary, one line each; of one that was rolled back, why."""
    for model in models:
        for version, known in model["versions"].items():
            if known["state"] == "rolled_back":
                yield f"{model['model']}: {known['reason']}"
            elif known["state"] == "gated":
                yield f"{model['model']} {version} is held back: {known['reason']}"
            elif verdict := known.get("verdict"):
                yield f"{model['model']} {version}: {verdict['reason']}"


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
