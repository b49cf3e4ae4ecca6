"""`canary-router validate` and `canary-router schema`: what can be known of configs without a running router.

Rules:
1. Every problem is told, one per line, in the form that editors and CI annotations understand.
2. Nothing is contacted and nothing is written: a config can be judged on any machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from router.cli.output import output_option, render
from router.config.json_schema import KINDS, json_schema
from router.config.load import Loaded, load_repository
from router.config.problems import Problem, printable
from router.config.settings import check_router_file


@click.command()
@click.argument("directory", metavar="[DIR]", default="config", type=click.Path(path_type=Path))
@output_option
@click.pass_context
def validate(context: click.Context, directory: Path, output: str) -> None:
    """Report every problem in the configs in DIR, the folder that holds models/ (default: config).

    Exits with 1 if there is one.
    """
    loaded = load_repository(directory)
    problems = [*loaded.problems, *_of_router(directory)]
    click.echo(_told(loaded, problems, output))
    context.exit(1 if problems else 0)


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)), default="model")
def schema(kind: str) -> None:
    """Print the JSON Schema of a model's config, of router.yaml or of regions.yaml."""
    click.echo(json_schema(kind), nl=False)


def _of_router(directory: Path) -> Sequence[Problem]:
    """The problems of the repository's router.yaml, which may live elsewhere."""
    path = directory / "router.yaml"
    return check_router_file(path) if path.exists() or path.is_symlink() else ()


def _told(loaded: Loaded, problems: Sequence[Problem], output: str) -> str:
    if output == "table":
        return "\n".join([*map(str, problems), _summary(loaded.examined, len(problems))])
    header = [field.name for field in dataclasses.fields(Problem)]
    # A file's name may hold bytes that no output can carry.
    found = [{**dataclasses.asdict(problem), "file": printable(problem.file)} for problem in problems]
    rows = [[str(problem[name]) for name in header] for problem in found]
    return render({"models": loaded.examined, "problems": found}, header, rows, output)


def _summary(models: int, problems: int) -> str:
    return f"{models} model{'' if models == 1 else 's'}, {problems} problem{'' if problems == 1 else 's'}"
