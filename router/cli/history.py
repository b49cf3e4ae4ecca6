"""`canary-router history`: who changed what, when, on what evidence, and whether that is still what was written.

Rules:
1. With `--state` alone the database is read, router or none, and nothing is written; else a running router is asked.
2. Verifying trusts nobody: every hash is calculated here, over the whole trail, whatever part of it is shown.
3. Oldest first, as it happened; `--limit` keeps the newest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from router.cli.client import AdminClient, admin_options, find_router
from router.cli.output import clean, output_option, render
from router.errors import ClientError, OperatorError, UpstreamError
from router.store.audit import Finding, Head, Row, findings, record_of, row_of
from router.store.sqlite_file import FILE_NAME, open_as_it_stands, told
from router.store.sqlite_ledger import audit_head, audit_rows

HEADER = ("ENTRY", "TIME", "ACTOR", "ACTION", "MODEL", "VERSION", "REGION", "CHANGE", "REASON")
PAGE = 500
LOOKS = 5


class Trail(NamedTuple):
    """Records by rising sequence, and the head that their keeper tells."""

    rows: Sequence[Row]
    head: Head


def _parsed(ctx: click.Context, param: click.Parameter, value: str | None) -> Head | None:
    try:
        return None if value is None else Head.parse(value)
    except ClientError as error:
        raise click.BadParameter(error.message, ctx, param) from error


@click.command()
@click.argument("model", required=False)
@click.option("--verify", is_flag=True, help="Check that no entry was altered, removed or moved; exit 1 if one was.")
@click.option(
    "--head", "noted", callback=_parsed, metavar="SEQ:HASH", help="Verify also against this head, noted before."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show only the newest N entries.")
@output_option
@admin_options
def history(model: str | None, verify: bool, noted: Head | None, limit: int | None, output: str, **where: Any) -> None:
    """Show who changed what, when, why and on what evidence: for MODEL alone, or for all.

    With --state DIR the database in DIR is read, also where no router runs. The last line is the trail's head: whoever
    notes it elsewhere can prove later, with --head, that nothing up to there was changed.
    """
    checking = verify or noted is not None
    trail = read_trail(None if checking else model, where)
    shown = [row for row in trail.rows if model in (None, row.model)]
    shown = shown[-limit:] if limit else shown
    found = findings(trail.rows, kept=trail.head, noted=noted) if checking else []
    click.echo(_rendered(shown, trail.head, found if checking else None, output))
    if found:
        raise _broken(found)
    if output == "table":
        click.echo(f"head {trail.head}")
        if checking:
            click.echo(_verified(trail.head, noted))


def read_trail(model: str | None, where: Mapping[str, Any]) -> Trail:
    """The trail, of `model` alone where it is named, from where the options in `where` say (rule 1)."""
    if where["state"] is not None and where["admin"] is None:
        return from_database(where["state"], model)
    return from_router(find_router(**where), model)


def from_database(state: Path, model: str | None) -> Trail:
    """The trail in the state directory.

    Raises:
        OperatorError: there is no database.
        StoreError: it cannot be read.
    """
    path = state / FILE_NAME
    if not path.exists():
        raise OperatorError(
            f"the state directory {state} holds no database", hint="name the one of a router that ran with --state DIR"
        )
    with told(path), closing(open_as_it_stands(path)) as connection:
        connection.execute("BEGIN")
        return Trail(audit_rows(connection, model, after=0, limit=2**63 - 1), audit_head(connection))


def from_router(router: AdminClient, model: str | None) -> Trail:
    """The trail as a running router tells it.

    Raises:
        UpstreamError: what it tells cannot be understood.
    """
    rows: list[Row] = []
    looks = LOOKS
    while True:
        page, head = _page(router, model, rows[-1].sequence if rows else 0)
        rows += page
        # While a router writes, entries and head may be told of two moments; the next look has both.
        complete = model is not None or head.sequence == (rows[-1].sequence if rows else 0)
        looks -= not page
        if not page and (complete or not looks):
            return Trail(rows, head)


def _page(router: AdminClient, model: str | None, after: int) -> tuple[list[Row], Head]:
    parameters = {"after": str(after), "limit": str(PAGE), **({} if model is None else {"model": model})}
    told_by_router = router.get("/audit", parameters)
    try:
        rows = [row_of(entry) for entry in told_by_router["entries"]]
        head = Head(int(told_by_router["head"]["sequence"]), str(told_by_router["head"]["hash"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UpstreamError(
            f"the router at {router.url} tells its history in a way that this release does not understand",
            hint="use the release that the router runs, or read its database with --state DIR",
        ) from error
    # A router that did not move on would keep us here for ever.
    return [row for row in rows if row.sequence > after], head


def _rendered(rows: Sequence[Row], head: Head, found: Sequence[Finding] | None, output: str) -> str:
    entries = [record_of(row).shown() for row in rows]
    data: dict[str, Any] = {"entries": entries, "head": {"sequence": head.sequence, "hash": head.hash}}
    if found is not None:
        data["findings"] = [finding._asdict() for finding in found]
    return render(data, HEADER, [_cells(entry) for entry in entries], output)


def _cells(entry: Mapping[str, Any]) -> Sequence[str]:
    named = (str(entry[name]) or "-" for name in ("actor", "action", "model", "version", "region"))
    change = ", ".join(_changes(entry["before"], entry["after"])) or "-"
    return (str(entry["sequence"]), _time(entry["time"]), *named, change, str(entry["reason"]) or "-")


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "-"


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield f"{name} {_short(new)}" if name not in before else f"{name} {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _verified(head: Head, noted: Head | None) -> str:
    against = f", and entry {noted.sequence} is the one that was noted" if noted is not None else ""
    return f"verified: {head.sequence} entries, each follows the one before{against}"


def _broken(found: Sequence[Finding]) -> OperatorError:
    told_of = "".join(f"\n  {clean(str(finding))}" for finding in found)
    return OperatorError(
        f"the audit trail is not as it was written:{told_of}",
        hint="somebody with access to the database changed it, or its disk did; a backup has what was there before",
    )
