"""`canary-router register`: brings in a model that was trained elsewhere, with its lineage.

Rules:
1. The lineage that gates ask for by default has to be given: nobody can find it out later.
2. MLflow is asked by a child; this process never imports it.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import click
import msgspec

from router.cli.output import clean, output_option, render
from router.config.settings import load_settings
from router.registry import client

HEADER = ("MODEL", "VERSION", "RUN", "SHA256")


def _commit(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{7,64}", value):
        raise click.BadParameter("a git commit is 7 to 64 hexadecimal digits")
    return value


def _metrics(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            found[name] = float(number)
        except ValueError as fault:
            raise click.BadParameter(f"{value!r} is no NAME=NUMBER, such as auc=0.97") from fault
    return found


@click.command()
@click.option("--from", "origin", required=True, metavar="PATH|URI", help="Directory or URI that holds the MLmodel.")
@click.option("--name", required=True, help="The registered model, made if there is none.")
@click.option("--git-commit", required=True, callback=_commit, help="Of the code that trained it.")
@click.option("--dataset-digest", required=True, help="Of the data that it was trained on.")
@click.option("--dataset", default="training", show_default=True, help="What that data set is called.")
@click.option("--metric", "metrics", multiple=True, callback=_metrics, metavar="NAME=NUMBER", help="For the gates.")
@click.option("--registry", metavar="URL", help="The MLflow registry.  [default: as for serve]")
@output_option
def register(
    origin: str,
    name: str,
    git_commit: str,
    dataset_digest: str,
    dataset: str,
    metrics: dict[str, float],
    registry: str | None,
    output: str,
) -> None:
    """Register a model that was trained elsewhere as the next version of NAME, with its lineage.

    PATH is a directory that MLflow's save_model wrote, for instance on the machine that trained it; URI is one that
    MLflow can download from, such as s3://bucket/model.
    """
    beside = Path(os.environ.get("CANARY_ROUTER_CONFIG") or "config") / "router.yaml"
    settings = load_settings(beside if beside.is_file() else None, os.environ, {"registry": registry})
    made = asyncio.run(
        client.register(
            origin,
            name=name,
            registry=settings.registry or os.environ.get("MLFLOW_TRACKING_URI"),
            git_commit=git_commit,
            dataset=(dataset, dataset_digest),
            metrics=metrics,
        )
    )
    rows = [[made.name, made.version, made.run_id, made.digest]]
    click.echo(render({"registered": msgspec.to_builtins(made)}, HEADER, rows, output))
    if output == "table":
        click.echo(clean(f"next: model_uri: models:/{made.name}/{made.version}"))
