"""The registry child: one question to MLflow, one JSON object on standard output.

Rules:
1. `resolve URI`, `fetch URI --to DIR`, `register URI --name …`, `prepare MODEL --root DIR`; exit 0 with the answer,
   1 with `{"error", "hint", "fault"}`. No traceback.
2. Standard output carries the answer alone: whatever libraries print goes to standard error.
3. It asks once and briefly: MLflow's own retries, of minutes, are switched off. Its caller decides about another try.
4. Where `--lifeline FD` is given, it ends with the process that holds the pipe's other end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from router import lifeline
from router.errors import RouterError
from router.registry.types import Brought, Fetched, Prepared, Resolved, failure_of

_ONE_BRIEF_TRY = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_DOWNLOAD_TIMEOUT = "15"


def main(arguments: Sequence[str]) -> int:
    """Answers one question; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.lifeline is not None:
        lifeline.hold(asked.lifeline)
    answers = _keep_stdout_for_the_answer()
    os.environ.update(_ONE_BRIEF_TRY)
    try:
        answer: object = _answer(asked)
        code = 0
    except RouterError as error:
        answer = failure_of(error)
        code = 1
    with os.fdopen(answers, "wb") as out:
        out.write(msgspec.json.encode(answer) + b"\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m router.registry")
    parser.add_argument("--lifeline", type=int)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("resolve", "fetch"):
        command = commands.add_parser(name)
        command.add_argument("uri")
        command.add_argument("--registry", default=os.environ.get("MLFLOW_TRACKING_URI"))
        if name == "fetch":
            command.add_argument("--to", type=Path, required=True)
            command.add_argument("--expect", default="", help="the digest that the files must have")
    _add_register(commands.add_parser("register"))
    prepare = commands.add_parser("prepare")
    prepare.add_argument("model", type=Path, help="directory that holds the MLmodel")
    prepare.add_argument("--root", type=Path, required=True, help="directory of all environments")
    return parser


def _add_register(command: argparse.ArgumentParser) -> None:
    command.add_argument("uri")
    command.add_argument("--registry", default=os.environ.get("MLFLOW_TRACKING_URI"))
    command.add_argument("--name", required=True)
    command.add_argument("--git-commit", required=True)
    command.add_argument("--dataset", nargs=2, required=True, help="name and digest")
    command.add_argument("--metrics", default="{}", help="as JSON")


def _keep_stdout_for_the_answer() -> int:
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _answer(asked: argparse.Namespace) -> Resolved | Fetched | Brought | Prepared:
    if asked.command == "prepare":
        from router.registry import environments

        return environments.prepare(asked.model, asked.root)
    # Imported late: a wrong argument is told without the seconds that MLflow takes.
    from router.registry import artifacts, bringing, lookup

    if asked.command == "resolve":
        return lookup.resolve(asked.uri, asked.registry)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _DOWNLOAD_TIMEOUT
    if asked.command == "register":
        return bringing.register(
            asked.uri,
            asked.name,
            asked.registry,
            git_commit=asked.git_commit,
            dataset=tuple(asked.dataset),
            metrics=json.loads(asked.metrics),
        )
    return artifacts.fetch(asked.uri, asked.to, asked.registry, asked.expect)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
