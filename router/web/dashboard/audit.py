"""The audit trail for people: newest first, filtered, a page at a time, or whole as a file.

Rules:
1. The trail is read from its end; a filter looks at `DEPTH` entries at most for one page, and the next page goes on
   from there.
2. An export is of the entries that the filter lets through, with everything that they hold.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from router.control.recorder import Recorder
from router.store.audit import AuditRecord

PAGE = 50
DEPTH = 5000
CHUNK = 500
MOST_EXPORTED = 20_000
COLUMNS = ("sequence", "time", "actor", "action", "model", "version", "region", "reason", "before", "after",
           "evidence", "revision", "digest", "hash")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A filter; `before` is the sequence that all must lie below, 0 for the newest."""

    model: str = ""
    actor: str = ""
    action: str = ""
    before: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """From a request's query."""
        before = query.get("before", "")
        model, actor, action = (query.get(name, "").strip()[:200] for name in ("model", "actor", "action"))
        return cls(model, actor, action, int(before) if before.isdecimal() and len(before) < 16 else 0)

    def query(self, before: int = 0) -> str:
        """As a query string."""
        fields = {"model": self.model, "actor": self.actor, "action": self.action, "before": before}
        return "?" + urlencode({name: value for name, value in fields.items() if value})

    def lets(self, record: AuditRecord) -> bool:
        """Whether `record` is one of those asked for."""
        entry = record.entry
        return (
            (not self.model or self.model == entry.model)
            and (not self.actor or self.actor == entry.actor)
            and (not self.action or self.action == entry.action)
        )


async def newest(
    recorder: Recorder, asked: Asked, most: int = PAGE, depth: int = DEPTH
) -> tuple[Sequence[AuditRecord], int]:
    """The newest records, and the `before` of the next page (0 where there is none); raises `StoreError`."""
    end = asked.before - 1
    if not asked.before:
        _, head = await recorder.trail(None, 0, 1)
        end = head.sequence
    last = max(0, end - depth)
    found: list[AuditRecord] = []
    while end > last:
        start = max(last, end - CHUNK)
        records, _ = await recorder.trail(None, start, end - start)
        for record in reversed(records):
            if asked.lets(record):
                found.append(record)
            if len(found) == most:
                return found, record.sequence if record.sequence > 1 else 0
        end = start
    return found, end + 1 if end else 0


def as_json(records: Sequence[AuditRecord]) -> str:
    """A list of entries, as the API has them."""
    return json.dumps([record.shown() for record in records], indent=1, ensure_ascii=False)


def as_csv(records: Sequence[AuditRecord]) -> str:
    """One line each; what is nested is JSON. A cell that a spreadsheet would calculate begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for record in records:
        shown = record.shown()
        writer.writerow([_cell(shown[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@\t\r") else value


def compact(value: Mapping[str, object]) -> str:
    """`before` and `after` in a line: `step 2, weights default 10 %`."""
    shown = {name: item for name, item in value.items() if name not in {"canary", "digest", "revision"}}
    return json.dumps(shown, ensure_ascii=False)[1:-1].replace('"', "") if shown else "–"
