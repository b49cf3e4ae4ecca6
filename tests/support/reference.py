"""The reference of commands and of metrics, made from the code.

Rules:
1. What is written follows from the commands and from what `/metrics` is made of; nothing is repeated by hand.
2. `python -m tests.support.reference` writes docs/reference/cli.md and docs/reference/metrics.md; tests hold that both
   are current.
"""

from __future__ import annotations

from pathlib import Path

import click
from prometheus_client.metrics_core import Metric

from router.cli.main import COMMANDS
from router.cli.main import cli as program
from router.store.audit import Head
from router.web.exposition import Histograms
from router.web.metrics import LABELS, Readings, families

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

CLI = """\
# The command line

`canary-router COMMAND`. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 there are differences (`plan --exit-code`).
`NO_COLOR` is respected. Made from the program itself, as `--help` shows it.
"""

METRICS = """\
# Metrics

At `/metrics` of the admin port, in the text format of Prometheus or, where it is asked for, of OpenMetrics. Counters
count since control started. No label ever holds a user's identifier. With the router come
[rules](../../deploy/prometheus/recording.yaml), [alerts](../../deploy/prometheus/alerts.yaml) and
[a dashboard](../../deploy/grafana/dashboards/canary-router.json).

| name | type | labels | meaning |
| --- | --- | --- | --- |
"""


def cli() -> str:
    """The page on commands."""
    context = click.Context(program, info_name="canary-router")
    return CLI + "".join(_command(context, name) for name in COMMANDS)


def _command(context: click.Context, name: str) -> str:
    command = program.get_command(context, name)
    assert command is not None
    inner = click.Context(
        command,
        parent=context,
        info_name=name,
        terminal_width=118,
        max_content_width=118,
        help_option_names=["-h", "--help"],
    )
    return f"\n## {name}\n\n```\n{command.get_help(inner)}\n```\n"


def metrics() -> str:
    """The page on metrics."""
    nothing = Readings(
        tallies={}, in_flight={}, targets={}, revision="", failures=0, last_success=0.0, canaries=[], rollbacks={},
        store_failures=0, unwritten=0, head=Head(1, "0" * 64),
    )  # fmt: skip
    return METRICS + "".join(f"{line}\n" for line in sorted(map(_metric, families(nothing))))


def _metric(family: Metric | Histograms) -> str:
    if isinstance(family, Histograms):
        kind, labels = "histogram", LABELS
    else:
        # prometheus_client has no public name for the labels that a family was made with.
        kind, labels = family.type, tuple(getattr(family, "_labelnames", ()))
    name = f"{family.name}_total" if kind == "counter" else family.name
    return f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels) or '-'} | {family.documentation} |"


PAGES = {"cli.md": cli, "metrics.md": metrics}


if __name__ == "__main__":
    for file, made in PAGES.items():
        (REFERENCE / file).write_text(made(), encoding="utf-8")
