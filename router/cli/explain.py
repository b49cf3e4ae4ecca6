"""`canary-router explain`: the numbers behind the last verdict on a model's canaries, in words.

Rules:
1. First what is in force and why, then what the evidence says, then what is missing, then each guard with its numbers.
2. A guard's evidence is shown beside what it fires at; counts are since the canary began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from router.cli.client import admin_options, find_router
from router.cli.output import clean, output_option, render

HEADER = ("VERSION", "GUARD", "EVIDENCE", "FIRES AT", "CANARY", "STABLE", "RATES", "NOTE")
NO_CANARY = "{model} has no canary: stable has all of its traffic"


@click.command()
@click.argument("model")
@output_option
@admin_options
def explain(model: str, output: str, **where: Any) -> None:
    """Say why MODEL's canaries are where they are: verdict, what is missing, and the evidence of every guard.

    EVIDENCE is an e-value: how many times more likely what was seen is if the canary is worse than its guard allows. A
    guard rolls back at FIRES AT; CANARY and STABLE are bad requests of all, RATES since the evidence began to speak.
    """
    data = find_router(**where).get(f"/models/{quote(model, safe='')}")
    canaries = {name: shown for name, shown in data["versions"].items() if shown["evidence"] or shown["rollout"]}
    rows = [row for name, shown in canaries.items() for row in rows_of(name, shown)]
    if output != "table":
        click.echo(render(data, HEADER, rows, output))
        return
    if not canaries:
        click.echo(clean(NO_CANARY.format(model=model)))
        return
    for name, shown in canaries.items():
        for line in words_of(name, shown, data):
            click.echo(clean(line))
    click.echo(render(data, HEADER, rows, output))


def words_of(version: str, shown: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    """What is in force for `version`, why, what the evidence says and what is missing, a line each."""
    weights = ", ".join(
        f"{route['effective'].get(version, 0):g} % of {route['declared'].get(version, 0):g} % declared in {region}"
        for region, route in data["regions"].items()
    )
    yield f"{version} is {shown['state'].replace('_', ' ')}: {weights}"
    if rollout := shown["rollout"]:
        yield f"  last change: {rollout['reason']}"
    if verdict := shown["verdict"]:
        yield f"  verdict {verdict['kind']}: {verdict['reason']}"
        if verdict["missing"]:
            yield f"  missing for a promotion: {verdict['missing']}"
    else:
        yield "  not looked at yet"
    if rollout and rollout["missing"]:
        yield f"  the step still needs {' and '.join(rollout['missing'])}"


def rows_of(version: str, shown: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """A row for each guard."""
    for guard, reading in shown["evidence"].items():
        yield (
            version,
            guard,
            number(reading["e"]) + (" fired" if reading["fired"] else ""),
            number(reading["threshold"]),
            f"{reading['bad_canary']} of {reading['n_canary']}",
            f"{reading['bad_stable']} of {reading['n_stable']}",
            f"{100 * reading['observed_canary']:.3g} % / {100 * reading['observed_stable']:.3g} %",
            reading["note"] or "-",
        )


def number(value: float) -> str:
    """`value` for reading, in three figures."""
    return f"{value:.1e}" if value >= 1e6 else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
