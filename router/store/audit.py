"""The audit trail as a chain: who changed what, when, on what evidence, and whether it is still told as it was written.

Rules:
1. A record is its entry, a sequence number from 1 up without a gap, and the hash of the record before it.
2. A record's hash is SHA-256 over its body: the canonical JSON of all of that. So it covers everything before it, and
   whoever notes the newest hash elsewhere can tell later that nothing up to there was changed.
3. Canonical JSON: keys sorted, no spaces, UTF-8. Numbers that are not finite become text, for JSON has none of them.
4. `findings` needs no trust in whoever holds the records: it calculates every hash anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from router.errors import ClientError

GENESIS = "0" * 64
"""The hash that the first record follows."""


class Head(NamedTuple):
    """The newest record's place and hash (hex); `Head(0, GENESIS)` where there is none."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head that `str` wrote as `text`.

        Raises:
            ClientError: it is none.
        """
        found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text.strip().lower())
        if found is None:
            raise ClientError(f"{text!r} is no head: it must read SEQUENCE:HASH, the hash in 64 hex digits")
        return cls(int(found[1]), found[2])


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One intent, told before it takes effect.

    `time` is wall-clock seconds since the epoch; `before`, `after` and `evidence` may hold whatever JSON can;
    `revision` and `digest` are the config's.
    """

    time: float
    actor: str
    action: str
    model: str
    version: str = ""
    region: str = ""
    before: dict[str, Any] = msgspec.field(default_factory=dict)
    after: dict[str, Any] = msgspec.field(default_factory=dict)
    reason: str = ""
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)
    revision: str = ""
    digest: str = ""


class AuditRecord(msgspec.Struct, frozen=True):
    """An entry in its place; `previous` is the hash of the record before it."""

    entry: AuditEntry
    sequence: int
    previous: str
    hash: str

    def shown(self) -> dict[str, Any]:
        """All of it in one flat mapping, as the API and the command line tell it; `row_of` reads it back."""
        return {**_fields(self.entry, self.sequence, self.previous), "hash": self.hash}


class Row(NamedTuple):
    """A record as it is kept: `model` is for finding it, `body` is what `hash` was made of."""

    sequence: int
    model: str
    body: str
    hash: str


class Finding(NamedTuple):
    """Something wrong with the record `sequence`."""

    sequence: int
    problem: str

    def __str__(self) -> str:
        return f"entry {self.sequence}: {self.problem}"


def seal(entry: AuditEntry, head: Head) -> tuple[AuditRecord, Row]:
    """`entry` as the record that follows `head`, and how to keep it."""
    body = canonical(_fields(entry, head.sequence + 1, head.hash))
    row = Row(head.sequence + 1, entry.model, body, _hash(body))
    return record_of(row), row


def record_of(row: Row) -> AuditRecord:
    """The record that was kept as `row`; one that cannot be read tells so in place of its reason."""
    try:
        fields = json.loads(row.body)
        entry = msgspec.convert(fields, AuditEntry)
        return AuditRecord(entry, row.sequence, str(fields["previous"]), row.hash)
    except (ValueError, KeyError, TypeError):
        entry = AuditEntry(
            time=0.0, actor="", action="unreadable", model=row.model, reason="this entry was damaged or altered"
        )
        return AuditRecord(entry, row.sequence, "", row.hash)


def row_of(shown: Mapping[str, Any]) -> Row:
    """The row of a record that somebody showed us.

    Raises:
        KeyError, TypeError, ValueError: it is no record.
    """
    fields = {name: value for name, value in shown.items() if name != "hash"}
    return Row(int(shown["sequence"]), str(shown["model"]), canonical(fields), str(shown["hash"]))


def canonical(fields: Mapping[str, Any]) -> str:
    """`fields` as canonical JSON (rule 3)."""
    return json.dumps(_plain(fields), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def findings(rows: Iterable[Row], *, kept: Head, noted: Head | None = None) -> list[Finding]:
    """What is wrong with the chain `rows`, which come by rising sequence; empty where it is whole.

    `kept` is the head that the store knows beside the chain, `noted` one that somebody noted elsewhere.
    """
    found: list[Finding] = []
    last = Head(0, GENESIS)
    hash_there = GENESIS if noted is not None and noted.sequence == 0 else None
    sound = True
    for row in rows:
        problems = list(_problems(row, last, sound))
        found += problems
        sound = not problems
        last = Head(row.sequence, row.hash)
        if noted is not None and noted.sequence == row.sequence:
            hash_there = row.hash
    found += _against_kept(last, kept)
    if noted is not None:
        found += _against_noted(last, noted, hash_there)
    return found


def _problems(row: Row, last: Head, sound: bool) -> Iterator[Finding]:
    """What is wrong with `row` after `last`; `sound` tells whether the one before was."""
    follows = row.sequence == last.sequence + 1
    if row.sequence <= last.sequence:
        yield Finding(row.sequence, f"out of order: it comes after entry {last.sequence}")
    elif not follows:
        yield Finding(last.sequence + 1, _missing(last.sequence + 1, row.sequence - 1))
    if _hash(row.body) != row.hash:
        yield Finding(row.sequence, "altered: its hash is not that of what it says")
        return
    record = record_of(row)
    said = json.loads(row.body) if record.previous else {}
    if said.get("sequence") != row.sequence:
        yield Finding(row.sequence, f"moved here: it says of itself that it is entry {said.get('sequence')}")
    elif follows and sound and record.previous != last.hash:
        yield Finding(row.sequence, f"follows another entry {last.sequence} than the one that is there")
    if record.entry.model != row.model:
        yield Finding(row.sequence, f"filed under model {row.model!r}, but it is about {record.entry.model!r}")


def _against_kept(last: Head, kept: Head) -> Iterator[Finding]:
    if last.sequence < kept.sequence:
        yield Finding(last.sequence + 1, _missing(last.sequence + 1, kept.sequence))
    elif last.sequence > kept.sequence:
        yield Finding(kept.sequence + 1, "was not written by the router, whose newest entry is the one before")
    elif last.hash != kept.hash:
        yield Finding(last.sequence, "is not the newest entry that the router wrote")


def _against_noted(last: Head, noted: Head, hash_there: str | None) -> Iterator[Finding]:
    if noted.sequence > last.sequence:
        yield Finding(noted.sequence, "missing, with what led to it: the noted head is newer than the newest entry")
    elif hash_there != noted.hash:
        yield Finding(noted.sequence, "is not the one that was noted: the history up to there is another one")


def _missing(first: int, last: int) -> str:
    return "missing" if first == last else f"missing, and all up to entry {last}"


def _fields(entry: AuditEntry, sequence: int, previous: str) -> dict[str, Any]:
    return {**_plain(msgspec.structs.asdict(entry)), "sequence": sequence, "previous": previous}


def _plain(value: Any) -> Any:
    """`value` in what JSON has, and as JSON would give it back."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _plain(msgspec.to_builtins(value, str_keys=True))


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
