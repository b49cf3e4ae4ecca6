"""The chain: what it holds, and that nothing about it can be changed without being found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ClientError
from router.store.audit import (
    GENESIS,
    AuditEntry,
    AuditRecord,
    Finding,
    Head,
    Row,
    canonical,
    findings,
    record_of,
    row_of,
    seal,
)

QUICK = settings(deadline=None, derandomize=True, database=None)


def entry(number: int = 0, **fields: Any) -> AuditEntry:
    return AuditEntry(
        **{"time": 1000.5 + number, "actor": "alice", "action": "rollback", "model": "fraud", "version": "v4", **fields}
    )


def chain(length: int) -> list[Row]:
    head, rows = Head(0, GENESIS), []
    for number in range(length):
        _, row = seal(entry(number, model=("fraud", "wine")[number % 2], reason=f"reason {number}"), head)
        rows.append(row)
        head = Head(row.sequence, row.hash)
    return rows


def head_of(rows: list[Row]) -> Head:
    return Head(rows[-1].sequence, rows[-1].hash) if rows else Head(0, GENESIS)


def problems(rows: list[Row], kept: Head, noted: Head | None = None) -> list[str]:
    return [str(finding) for finding in findings(rows, kept=kept, noted=noted)]


def test_a_record_reads_as_it_was_written() -> None:
    written = entry(before={"weight": 10.0}, after={"weight": 0}, evidence={"e": 1e300, "n": [1, 2]}, reason="ü\0|")
    record, row = seal(written, Head(7, "a" * 64))
    assert record == AuditRecord(written, 8, "a" * 64, row.hash)
    assert record_of(row) == record
    assert row.model == "fraud"


def test_a_hash_is_sha_256_of_the_canonical_body() -> None:
    import hashlib

    record, row = seal(entry(), Head(0, GENESIS))
    fields = json.loads(row.body)
    assert list(fields) == sorted(fields)
    assert fields["previous"] == GENESIS
    assert fields["sequence"] == 1
    assert record.hash == hashlib.sha256(row.body.encode()).hexdigest()


def test_what_json_cannot_hold_becomes_text() -> None:
    class Reading(msgspec.Struct):
        e: float

    odd: dict[Any, Any] = {
        "inf": math.inf,
        "nan": math.nan,
        "half": "\ud800",
        3: (1, None),
        "reading": Reading(-math.inf),
    }
    record, row = seal(entry(evidence=odd), Head(0, GENESIS))
    assert record.entry.evidence == {"inf": "inf", "nan": "nan", "half": "?", "3": [1, None], "reading": {"e": "-inf"}}
    assert problems([row], Head(1, row.hash)) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(QUICK)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_record_that_travelled_as_json_is_verified_there(evidence: dict[str, Any]) -> None:
    record, row = seal(entry(evidence=evidence), Head(0, GENESIS))
    travelled = json.loads(json.dumps(record.shown()))
    assert row_of(travelled) == row
    assert problems([row_of(travelled)], Head(1, row.hash)) == []


def test_a_whole_chain_has_no_findings() -> None:
    rows = chain(5)
    assert problems([], Head(0, GENESIS), Head(0, GENESIS)) == []
    assert problems(rows, head_of(rows)) == []
    for noted in range(1, 6):
        assert problems(rows, head_of(rows), head_of(rows[:noted])) == []


def test_each_finding_says_which_and_what() -> None:
    rows = chain(6)
    head = head_of(rows)
    altered = [*rows[:2], rows[2]._replace(body=rows[2].body.replace("reason 2", "reason 3")), *rows[3:]]
    assert problems(altered, head) == ["entry 3: altered: its hash is not that of what it says"]
    assert problems([*rows[:2], *rows[3:]], head) == ["entry 3: missing"]
    assert problems([*rows[:2], *rows[4:]], head) == ["entry 3: missing, and all up to entry 4"]
    assert problems(rows[:4], head) == ["entry 5: missing, and all up to entry 6"]
    swapped = [rows[0], rows[2]._replace(sequence=2), rows[1]._replace(sequence=3), *rows[3:]]
    assert problems(swapped, head) == [
        "entry 2: moved here: it says of itself that it is entry 3",
        "entry 3: moved here: it says of itself that it is entry 2",
    ]
    refiled = [rows[0]._replace(model="other"), *rows[1:]]
    assert problems(refiled, head) == ["entry 1: filed under model 'other', but it is about 'fraud'"]
    backwards = [rows[0], rows[2], rows[1], *rows[3:]]
    assert any("out of order" in problem for problem in problems(backwards, head))


def test_an_entry_written_anew_with_a_fitting_hash_breaks_the_link_after_it() -> None:
    rows = chain(4)
    _, forged = seal(entry(reason="nothing to see"), Head(1, rows[0].hash))
    assert problems([rows[0], forged, *rows[2:]], head_of(rows)) == [
        "entry 3: follows another entry 2 than the one that is there"
    ]
    assert problems([*rows[:1], forged], head_of(rows[:2])) == [
        "entry 2: is not the newest entry that the router wrote"
    ]


def test_a_history_rewritten_from_end_to_end_is_found_by_the_head_noted_elsewhere() -> None:
    rows = chain(4)
    noted = head_of(rows)
    rewritten, head = [], Head(0, GENESIS)
    for number in range(5):
        _, row = seal(entry(number, reason="rewritten"), head)
        rewritten.append(row)
        head = Head(row.sequence, row.hash)
    assert problems(rewritten, head) == []
    assert problems(rewritten, head, noted) == [
        "entry 4: is not the one that was noted: the history up to there is another one"
    ]
    cut = rows[:2]
    assert problems(cut, head_of(cut)) == []
    assert problems(cut, head_of(cut), noted) == [
        "entry 4: missing, with what led to it: the noted head is newer than the newest entry"
    ]


def test_what_the_router_did_not_write_is_found() -> None:
    rows = chain(4)
    assert problems(rows, head_of(rows[:3])) == [
        "entry 4: was not written by the router, whose newest entry is the one before"
    ]


@settings(QUICK, max_examples=400)
@given(st.data())
def test_any_single_change_is_found(data: st.DataObject) -> None:
    rows = chain(data.draw(st.integers(1, 8), "length"))
    changed = data.draw(st.sampled_from(list(changes(rows, data))), "change")
    if changed != rows:
        assert problems(changed, head_of(rows))
        assert problems(changed, head_of(changed), head_of(rows))


def changes(rows: list[Row], data: st.DataObject) -> Iterator[list[Row]]:
    at = data.draw(st.integers(0, len(rows) - 1), "at")
    other = data.draw(st.integers(0, len(rows) - 1), "other")
    row = rows[at]
    place = data.draw(st.integers(0, len(row.body) - 1), "place")
    letter = data.draw(st.characters(), "letter")
    mutations = [
        row._replace(body=row.body[:place] + letter + row.body[place + 1 :]),
        row._replace(body=row.body[:place] + row.body[place + 1 :]),
        row._replace(body=data.draw(st.text(), "body")),
        row._replace(hash=data.draw(st.text("0123456789abcdef", min_size=64, max_size=64), "hash")),
        row._replace(model=data.draw(st.text(), "model")),
        rows[other]._replace(sequence=row.sequence),
    ]
    for mutation in mutations:
        yield [*rows[:at], mutation, *rows[at + 1 :]]
    yield [*rows[:at], *rows[at + 1 :]]
    swapped = list(rows)
    swapped[at], swapped[other] = (
        rows[other]._replace(sequence=row.sequence),
        row._replace(sequence=rows[other].sequence),
    )
    yield swapped


@pytest.mark.parametrize("body", ["", "no json", "[]", "{}", '{"time": "x"}', "null"])
def test_an_entry_that_cannot_be_read_says_so(body: str) -> None:
    record = record_of(Row(3, "fraud", body, "h"))
    assert (record.sequence, record.entry.model, record.entry.action) == (3, "fraud", "unreadable")


def test_even_a_body_that_is_no_record_but_hashes_right_is_found() -> None:
    import hashlib

    for body in ("no json", "[]", "{}"):
        hash_ = hashlib.sha256(body.encode()).hexdigest()
        assert problems([Row(1, "fraud", body, hash_)], Head(1, hash_))


def test_a_head_reads_as_it_is_written() -> None:
    head = Head(12, "ab" * 32)
    assert Head.parse(f" {head} ") == head
    for wrong in ("", "12", "12:ab", f"-1:{'a' * 64}", f"x:{'a' * 64}"):
        with pytest.raises(ClientError, match="SEQUENCE:HASH"):
            Head.parse(wrong)


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": {"d": 2.5, "c": "ü"}}) == '{"a":{"c":"ü","d":2.5},"b":1}'


def test_a_finding_names_its_entry() -> None:
    assert str(Finding(3, "missing")) == "entry 3: missing"
