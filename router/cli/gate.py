"""`canary-router gate`: what a version shows of what its model's gates ask for.

Rules:
1. Asks the registry itself, so it works before a pull request is merged and needs no running router.
2. Exit 0 where everything was shown, 1 where anything is missing or could not be looked at.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from router.cli.gate_looks import Looker, version_of
from router.cli.output import clean, output_option, render
from router.config.fields import DEFAULT_REGION
from router.config.load import load_repository
from router.config.schema import ModelConfig
from router.config.settings import load_settings
from router.control.plan_types import GateReport
from router.errors import OperatorError
from router.gates.findings import Finding

HEADER = ("GATE", "", "LOOKED AT", "WHERE", "FOUND", "NEEDED")


@click.command()
@click.argument("model")
@click.argument("version")
@click.argument("directory", metavar="[DIR]", default="config", type=click.Path(path_type=Path))
@click.option("--region", default=DEFAULT_REGION, show_default=True, help="Whose stable it is compared with.")
@click.option("--registry", metavar="URL", help="The MLflow server.  [default: as router.yaml says]")
@click.option("--no-smoke", is_flag=True, help="Fetch nothing and try no prediction.")
@output_option
@click.pass_context
def gate(
    context: click.Context,
    model: str,
    version: str,
    directory: Path,
    region: str,
    registry: str | None,
    no_smoke: bool,
    output: str,
) -> None:
    """Show what the gates of MODEL ask of VERSION, and what it shows.

    The configs are those in DIR (default: config); the registry is asked anew. Exits with 1 where a gate fails.
    """
    config = _config(directory, model)
    if config.gates is None:
        raise OperatorError(f"model {model} has no gates", hint=f"name some under `gates` in models/{model}.yaml")
    looker = Looker(registry_of(directory, registry), thorough=not no_smoke)
    report = asyncio.run(looker.look(config, version_of(config, version), region))
    click.echo(_told(model, report, output))
    context.exit(0 if report.passed else 1)


def registry_of(directory: Path, named: str | None) -> str | None:
    """The registry that the option, the environment or the repository's router.yaml name."""
    beside = directory / "router.yaml"
    settings = load_settings(beside if beside.is_file() else None, os.environ, {"registry": named})
    return settings.registry or os.environ.get("MLFLOW_TRACKING_URI")


def _config(directory: Path, model: str) -> ModelConfig:
    loaded = load_repository(directory)
    if model in loaded.configs:
        return loaded.configs[model]
    problems = [str(problem) for problem in loaded.problems if problem.model == model]
    if problems:
        raise OperatorError(f"the config of {model} has problems: {problems[0]}", hint="see `canary-router validate`")
    known = ", ".join(sorted(loaded.configs)[:5]) or "none"
    raise OperatorError(f"{directory} has no model {model!r}", hint=f"the models there are: {known}")


def row_of(finding: Finding) -> list[str]:
    """`finding` as a row under `HEADER`."""
    verdict = "passed" if finding.passed else "failed"
    return [finding.gate, verdict, finding.looked_at, finding.where, finding.found, finding.needed]


def report_data(report: GateReport) -> dict[str, Any]:
    """The whole of `report`."""
    findings = [msgspec.to_builtins(finding) for finding in report.findings]
    return {
        "version": report.version,
        "stable": report.stable,
        "passed": report.passed,
        "findings": findings,
        "problem": report.problem,
        "note": report.note,
    }


def _told(model: str, report: GateReport, output: str) -> str:
    rows = [row_of(finding) for finding in report.findings]
    text = render({"model": model, **report_data(report)}, HEADER, rows, output)
    if output in {"json", "yaml"}:
        return text
    return "\n".join([*([text] if rows else []), "", clean(f"{model} {summary(report)}")]).lstrip("\n")


def summary(report: GateReport) -> str:
    """One line on what came of it."""
    if report.problem:
        said = f"cannot be judged, its gates could not be looked at: {report.problem}"
    else:
        missing = sum(not finding.passed for finding in report.findings)
        count = len(report.findings)
        said = f"passes all {count} gates" if not missing else f"fails {missing} of {count} gates"
    return f"{report.version} {said}{f' ({report.note})' if report.note else ''}"
