"""`canary-router`: the commands, and what every one of them has in common.

Rules:
1. A command's module is imported when that command is used: `--help` and completion import nothing heavy.
2. Exit codes: 0 done, 1 failed, 2 wrong usage. What failed is told without a traceback, with a way to mend it.
3. Where NO_COLOR is set, or the output is no terminal, there are no colours.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple

import click

from router.errors import InternalError, RouterError


class Lazy(NamedTuple):
    """Where a command lives; `summary` is its line in `--help`, repeated here so that listing imports nothing."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "approve": Lazy("router.cli.steer", "approve", "Let a rollout enter the step that waits for approval."),
    "backup": Lazy("router.cli.backup", "backup", "Write the state of a router, running or not, to a file."),
    "demo": Lazy("router.cli.demo", "demo", "Train two real models, serve them 90/10 and compare them."),
    "doctor": Lazy("router.cli.doctor", "doctor", "Check the environment, and say how to mend it."),
    "explain": Lazy(
        "router.cli.explain", "explain", "Say why a model's canaries are where they are, with the numbers."
    ),
    "gate": Lazy("router.cli.gate", "gate", "Show what a version's gates ask for, and what it shows."),
    "history": Lazy("router.cli.history", "history", "Show who changed what, when, why and on what evidence."),
    "init": Lazy("router.cli.init", "init", "Write a first repository of configs."),
    "pause": Lazy("router.cli.steer", "pause", "Keep a canary at its weight until `resume`."),
    "plan": Lazy("router.cli.plan", "plan", "Tell what a change of configs does to traffic."),
    "promote": Lazy("router.cli.steer", "promote", "Enter a rollout's next step now, or its last."),
    "readmit": Lazy("router.cli.steer", "readmit", "Lift a canary's rollback."),
    "register": Lazy("router.cli.register", "register", "Register a model trained elsewhere, with its lineage."),
    "restore": Lazy("router.cli.backup", "restore", "Put the state from a backup into a state directory."),
    "resume": Lazy("router.cli.steer", "resume", "Let a paused rollout go on."),
    "rollback": Lazy("router.cli.steer", "rollback", "Send a canary no more requests, at once and everywhere."),
    "schema": Lazy("router.cli.configs", "schema", "Print the JSON Schema of a model's config."),
    "serve": Lazy("router.cli.serve", "serve", "Run the router on a directory of configs."),
    "simulate": Lazy("router.cli.simulate", "simulate", "Show how a model's guards would judge a bad canary."),
    "status": Lazy("router.cli.status", "status", "Show weights and health of a running router's models."),
    "validate": Lazy("router.cli.configs", "validate", "Report every problem in the configs."),
}


class LazyGroup(click.Group):
    """Keeps rule 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group.list_commands`."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group.get_command`."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Group.format_commands`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in sorted(COMMANDS.items())])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Completion: eval "$(_CANARY_ROUTER_COMPLETE=bash_source canary-router)" in ~/.bashrc; zsh_source and '
    "fish_source likewise.",
)
@click.version_option(package_name="canary-router", message="%(prog)s %(version)s")
def cli() -> None:
    """A canary routing proxy in front of model servers: a pull request is the production deploy."""


def main() -> None:
    """Runs the command line and exits by rule 2."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """The exit code of the command line `arguments`, of this process's where None."""
    color = False if os.environ.get("NO_COLOR") else None
    try:
        code = cli.main(args=arguments, prog_name="canary-router", standalone_mode=False, color=color)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RouterError as error:
        click.secho(_told(error), err=True, fg="red", color=color)
        return 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 1
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; the interpreter's last flush must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _told(error: RouterError) -> str:
    if isinstance(error, InternalError):
        return f"error: {error}\n  this is a bug in the router; please report it"
    return f"error: {error}"
