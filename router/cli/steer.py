"""`canary-router promote`, `pause`, `resume`, `rollback`, `readmit`, `approve`: steering by hand.

Rules:
1. One request to the router, which decides; what it says is told in one line, with what is in force now.
2. Exit 0 only where the command took effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from router.cli.client import admin_options, find_router
from router.cli.output import clean, output_option, render

DONE = {
    "promote": "promoted",
    "pause": "paused",
    "resume": "resumed",
    "rollback": "rolled back",
    "readmit": "readmitted",
    "approve": "approved",
}
HEADER = ("MODEL", "VERSION", "DONE", "PHASE", "AUDIT")


def steering(action: str, help_text: str, *further: Callable[[Any], Any]) -> click.Command:
    """The command `action`."""

    @click.command(name=action, help=help_text)
    @click.argument("model")
    @click.option("--version", metavar="NAME", help="Which canary, where there are several.")
    @click.option("--reason", metavar="TEXT", default="", help="Why; kept in the audit trail.")
    @output_option
    @admin_options
    def command(model: str, version: str | None, reason: str, output: str, **options: Any) -> None:
        region, everything = options.pop("region", None), options.pop("everything", False)
        body = {"reason": reason, "version": version, "region": region, "all": everything}
        router = find_router(**options)
        told = router.post(
            f"/models/{quote(model, safe='')}/{action}", {key: value for key, value in body.items() if value}
        )
        click.echo(_sentence(told) if output == "table" else render(told, HEADER, [_row(told)], output))

    for option in further:
        command = option(command)
    return command


def _row(told: dict[str, Any]) -> list[str]:
    return [
        told["model"],
        told["version"],
        DONE[told["action"]],
        told["rollout"]["phase"],
        str(told["sequence"] or "-"),
    ]


def _sentence(told: dict[str, Any]) -> str:
    where = f"audit entry {told['sequence']}" if told["sequence"] else "not in the audit trail yet: the store refuses"
    return clean(f"{told['model']} {told['version']} {DONE[told['action']]}: {told['rollout']['reason']} ({where})")


promote = steering(
    "promote",
    "Enter the next step of MODEL's rollout now, without waiting for its hold and its proof.",
    click.option("--all", "everything", is_flag=True, help="Enter the last step of the last region at once."),
    click.option("--region", metavar="NAME", help="Only if this is the region that the rollout is in."),
)
pause = steering("pause", "Keep MODEL's canary at its weight, whatever it shows, until `resume`; guards stay in force.")
resume = steering("resume", "Let MODEL's rollout go on where it was paused.")
rollback = steering("rollback", "Send MODEL's canary no more requests, in every region, until `readmit`.")
readmit = steering("readmit", "Lift the rollback of MODEL's canary; its evidence starts anew.")
approve = steering("approve", "Let MODEL's rollout enter the step that waits for approval.")
