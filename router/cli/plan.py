"""`canary-router plan`: what a change of configs does to traffic, before it is merged.

Rules:
1. Nothing is contacted but git in the repository at hand, the registry where gates ask for it, and with `--live` the
   running router. Nothing is written.
2. Exit 1 where the new configs have problems, which `validate` tells as well; with `--exit-code` 3 where there are
   differences.
3. What is compared with is the whole of one commit, or another folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from router.cli.client import AdminClient, admin_options, find_router
from router.cli.gate import registry_of
from router.cli.output import output_option, render
from router.cli.plan_gates import with_gates, with_own_approvals
from router.cli.plan_words import as_data, as_markdown, as_table
from router.config.load import load_repository
from router.config.names import check_name
from router.config.scalars import parse_chance
from router.config.settings import load_settings
from router.control.plan import compare
from router.control.plan_types import Assumptions, Live
from router.control.texts import authors_since, load_texts, texts_at, texts_in_folder
from router.errors import OperatorError

DIFFERENT = 3


def _rates(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for value in values:
        region, equals, number = value.rpartition("=")
        try:
            if equals:
                check_name(region)
            rates[region] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is no rate; write requests per second, 20 or eu-west=20") from error
        if not math.isfinite(rates[region]) or rates[region] <= 0:
            raise click.BadParameter(f"{value!r}: a rate is more than 0 requests per second")
    return rates


def _chance(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return parse_chance(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("directory", metavar="[DIR]", default="config", type=click.Path(path_type=Path))
@click.option(
    "--against",
    required=True,
    metavar="REF|DIR",
    help="What to compare with: a commit, branch or tag of the git repository around DIR, or another folder.",
)
@click.option(
    "--rate",
    multiple=True,
    callback=_rates,
    metavar="[REGION=]N",
    help="Requests per second that a model gets in a region; tells how long until a regression would be rolled back.",
)
@click.option(
    "--stable-error-rate",
    default="0.5%",
    show_default=True,
    callback=_chance,
    metavar="PERCENT",
    help="How often stable fails.",
)
@click.option("--registry", metavar="URL", help="The MLflow server, for gates.  [default: as router.yaml says]")
@click.option("--no-gates", is_flag=True, help="Ask no registry what versions show of what the gates ask for.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 where there are differences.")
@click.option("--live", is_flag=True, help="Ask the running router for rates, and for rollbacks that hold.")
@output_option
@admin_options
@click.pass_context
def plan(
    context: click.Context,
    /,
    directory: Path,
    against: str,
    rate: dict[str, float],
    stable_error_rate: float,
    registry: str | None,
    no_gates: bool,
    exit_code: bool,
    live: bool,
    output: str,
    **where: Any,
) -> None:
    """Tell what the configs in DIR (default: config) change for traffic against REF or DIR.

    Per model and region: the split before and after, who moves and that nobody moves who need not, versions that start
    or stop, what to look at twice, and how soon a bad canary would be rolled back.
    """
    if not directory.is_dir():
        raise OperatorError(f"{directory} is no folder", hint="name the one that holds models/")
    root = directory.absolute()
    old = texts_in_folder(Path(against)) if _is_repository(Path(against)) else texts_at(directory, against)
    assumed = Assumptions(rate, stable_error_rate, _served(directory / "router.yaml"))
    if live:
        assumed = replace(assumed, live=_live(find_router(**where)))
    after = load_repository(directory)
    found = compare(load_texts(old, root), after, assumed)
    if not no_gates:
        found = with_gates(found, after.configs, lambda: registry_of(directory, registry))
        found = with_own_approvals(found, after.configs, _authors(directory, against))
    if output == "table":
        click.echo(as_table(found, old.source))
    elif output == "markdown":
        click.echo(as_markdown(found, old.source))
    else:
        click.echo(render(as_data(found, old.source), (), (), output))
    context.exit(1 if found.problems else DIFFERENT if exit_code and found.differs else 0)


def _authors(directory: Path, against: str) -> frozenset[str]:
    """Who wrote the commits since `against`; nobody where that is a folder."""
    return frozenset() if _is_repository(Path(against)) else authors_since(directory, against)


def _live(router: AdminClient) -> Live:
    """What `router` says of the traffic that it has."""
    models = router.get("/models")["models"]
    return Live(
        {(model["model"], region): there["rate"] for model in models for region, there in model["regions"].items()},
        {
            (model["model"], version): known["reason"] or "no reason was given"
            for model in models
            for version, known in model["versions"].items()
            if known["state"] == "rolled_back"
        },
    )


def _is_repository(path: Path) -> bool:
    return (path / "models").is_dir()


def _served(file: Path) -> tuple[str, ...] | None:
    """The regions that router.yaml listens for; None where it says nothing of several. What is wrong in it is told by
    `validate`."""
    try:
        listen = load_settings(file, {}, {}).listen if file.is_file() else {}
    except OperatorError:
        return None
    return tuple(listen) if len(listen) > 1 else None
