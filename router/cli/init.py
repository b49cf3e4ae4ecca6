"""`canary-router init`: a first repository of configs.

Rules:
1. What it writes passes `validate` as it is, and is written only if it does.
2. Nothing that exists is overwritten: where one of the files is there already, nothing is written at all.
3. From a registry, each model gets one version, all of the traffic, and no guess beyond that.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from router.cli.mlflow_api import Mlflow
from router.cli.scaffold import Scaffold, example_files, model_files
from router.config.load import load_repository
from router.config.names import check_url
from router.config.problems import printable
from router.config.settings import check_router_file
from router.errors import InternalError, OperatorError


def _url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value == "":
        value = os.environ.get("MLFLOW_TRACKING_URI", "")
    try:
        return None if value is None else check_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option(
    "--from-registry",
    metavar="URL",
    callback=_url,
    is_flag=False,
    flag_value="",
    help="Write one config for each model that the MLflow server at URL has registered.  [URL: MLFLOW_TRACKING_URI]",
)
def init(directory: Path, from_registry: str | None) -> None:
    """Write a first repository of configs into DIR (default: here).

    That is config/ with a model, regions.yaml, router.yaml and the JSON Schemas for editors, and what runs `validate`
    and `plan` on pull requests.
    """
    found = model_files(from_registry, Mlflow(from_registry).models()) if from_registry else example_files()
    _check(found)
    _write(directory, found.files)
    for line in (*(f"wrote {printable(str(directory / path))}" for path in found.files), *found.remarks):
        click.echo(line)
    click.echo(f"next: cd {printable(str(directory))} && canary-router validate" if str(directory) != "." else _NEXT)


_NEXT = "next: canary-router validate"


def _check(scaffold: Scaffold) -> None:
    """Rule 1."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), scaffold.files)
        root = Path(folder) / "config"
        problems = (*load_repository(root).problems, *check_router_file(root / "router.yaml"))
    if problems:
        raise InternalError(f"the new configs would have problems: {problems[0]}")


def _write(directory: Path, files: Mapping[str, str]) -> None:
    present = [path for path in files if (directory / path).exists() or (directory / path).is_symlink()]
    if present:
        raise OperatorError(
            f"{printable(str(directory / present[0]))} exists already"
            + (f", and {len(present) - 1} more" if len(present) > 1 else ""),
            hint="nothing was written; name an empty folder: canary-router init DIR",
        )
    try:
        for path, text in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            with (directory / path).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise OperatorError(
            f"{printable(str(error.filename or directory))} cannot be written: {error.strerror or error}"
        ) from error
