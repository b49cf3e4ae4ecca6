"""`canary-router backup` and `canary-router restore`.

Rules:
1. A backup may be made while the router runs; a restore holds the state directory's lock from beginning to end.
2. A restore changes nothing before the backup was found whole, and replaces a database only if told to.
3. A restore is told in the audit trail it brings back, with the user of this machine as the actor.
"""

from __future__ import annotations

import getpass
import os
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec

from router.cli.output import clean, output_option, render
from router.clock import SystemClock
from router.config.settings import load_settings
from router.errors import OperatorError
from router.store.audit import Head
from router.store.backup import Manifest, put_in_place, record_restore, unpacked, write_backup
from router.store.sqlite_file import FILE_NAME
from router.supervisor.state import StateDirectory

HEADER = ("FILE", "MADE", "RELEASE", "DATABASE", "AUDIT HEAD")

state_option = click.option(
    "--state", type=Path, metavar="DIR", help="The router's state directory.  [default: ./state]"
)
settings_option = click.option("--settings", type=Path, metavar="FILE", help="router.yaml, which may name it.")
file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@file_argument
@state_option
@settings_option
@output_option
def backup(file: Path, state: Path | None, settings: Path | None, output: str) -> None:
    """Write the state of a router, running or not, to FILE.

    In it are the database (rollbacks, rollouts, evidence, audit trail, last good configs, pins) and a manifest with
    checksums. Fetched models and the admin token are not: the one is fetched again, the other made anew.
    """
    manifest, found = write_backup(_state(state, settings), file, SystemClock(), version("canary-router"))
    _print(file, manifest, manifest.head, output)
    for finding in found:
        click.secho(clean(f"warning: the audit trail: {finding}"), err=True, fg="yellow")


@click.command()
@file_argument
@state_option
@settings_option
@click.option("--force", is_flag=True, help="Replace the database that is there; it is kept beside the new one.")
@click.option("--accept-broken-trail", is_flag=True, help="Restore even if the backup's audit trail was changed.")
@output_option
def restore(
    file: Path, state: Path | None, settings: Path | None, force: bool, accept_broken_trail: bool, output: str
) -> None:
    """Put the state from FILE into a state directory that no router runs on.

    FILE is checked first: its checksums, and the audit trail in it. What is decided after the backup was made is lost:
    look at the history, and repeat what should hold.
    """
    directory, clock = _state(state, settings), SystemClock()
    if not file.exists():
        raise OperatorError(f"{file} does not exist")
    with closing(StateDirectory(directory)):
        if (directory / FILE_NAME).exists() and not force:
            raise OperatorError(
                f"the state directory {directory} holds a database already",
                hint="--force replaces it, and keeps it beside the new one",
            )
        with unpacked(file, directory, clock) as (manifest, database, found):
            if found and not accept_broken_trail:
                told = "".join(f"\n  {clean(str(finding))}" for finding in found)
                raise OperatorError(
                    f"the audit trail in {file} is not as it was written:{told}",
                    hint="nothing was changed; --accept-broken-trail restores it as it is",
                )
            head = record_restore(database, clock, _actor(), manifest, file)
            aside = put_in_place(database, directory, clock)
    _print(file, manifest, head, output)
    if aside is not None:
        click.echo(f"the database before is kept as {aside}", err=True)


def _state(state: Path | None, settings: Path | None) -> Path:
    return load_settings(settings, os.environ, {"state": state}).state


def _actor() -> str:
    try:
        return f"{getpass.getuser()} on this machine"
    except (KeyError, OSError):
        return f"uid {os.getuid()} on this machine"


def _print(file: Path, manifest: Manifest, head: Head, output: str) -> None:
    data: dict[str, Any] = {
        **msgspec.to_builtins(manifest),
        "file": str(file),
        "head": {"sequence": head.sequence, "hash": head.hash},
    }
    made = datetime.fromtimestamp(manifest.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    size = f"{manifest.files[FILE_NAME].size} bytes"
    click.echo(render(data, HEADER, [(str(file), made, manifest.release, size, str(head))], output))
