"""Each gate passes on what it asks for, fails on anything less, and says what it looked at, found and needed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.gates_schema import Gates
from router.gates.evaluate import evaluate
from router.gates.facts import Dataset, Seen, Smoke, seen_of
from router.gates.findings import failed

NOW = 1_800_000_000.0
DAY = 86_400.0
GOOD = Seen(
    uri="models:/fraud@next",
    resolved="models:/fraud/4",
    run_id="r4",
    run_status="FINISHED",
    tags={"dataset_sha256": "a" * 64, "prep": "p1", "approved_by": "ada, grace", "mlflow.user": "ada"},
    metrics={"auc": 0.951, "log_loss": 0.11},
    git_commit="0123456789abcdef0123456789abcdef01234567",
    datasets=[Dataset("payments", "12ab34cd")],
    signature=True,
    flavor="sklearn",
    created_at=NOW - 10 * DAY,
)
STABLE = msgspec.structs.replace(GOOD, resolved="models:/fraud/3", run_id="r3", metrics={"auc": 0.956, "log_loss": 0.1})
ALL: dict[str, Any] = {
    "lineage": ["git_commit", "dataset_digest", "dataset_hash", "run", "signature"],
    "flavors": ["sklearn", "xgboost"],
    "metrics": [
        {"name": "auc", "min": "0.95", "no_worse_than_stable_by": "0.005"},
        {"name": "log_loss", "max": "0.12", "no_worse_than_stable_by": "0.01"},
    ],
    "same_as_stable": ["prep"],
    "tags": {"prep": "p1"},
    "approvals": {"at_least": "1"},
    "max_age": "240h",
    "smoke": "true",
}


def gates(**asked: Any) -> Gates:
    return Gates.model_validate(asked)


def found(asked: Gates, seen: Seen = GOOD, stable: Seen | None = STABLE, **more: Any) -> dict[str, bool]:
    smoke = more.pop("smoke", Smoke(True, "http://v4", "200"))
    findings = evaluate(asked, seen, stable=stable, smoke=smoke, now=NOW, **more)
    return {finding.gate: finding.passed for finding in findings}


def test_a_version_that_shows_everything_passes_every_gate() -> None:
    passed = found(gates(**ALL))
    assert set(passed) == {
        "lineage.git_commit", "lineage.dataset_digest", "lineage.dataset_hash", "lineage.run", "lineage.signature",
        "flavors", "metrics.auc.min", "metrics.auc.no_worse_than_stable_by", "metrics.log_loss.max",
        "metrics.log_loss.no_worse_than_stable_by", "same_as_stable.prep", "tags.prep", "approvals", "max_age", "smoke",
    }  # fmt: skip
    assert all(passed.values())


def test_what_is_absent_has_failed_gate_by_gate() -> None:
    assert not any(found(gates(**ALL), Seen(), None, smoke=None).values())


@pytest.mark.parametrize(
    ("gate", "asked", "change"),
    [
        ("lineage.git_commit", {"lineage": ["git_commit"]}, {"git_commit": "main"}),
        ("lineage.dataset_digest", {"lineage": ["dataset_digest"]}, {"datasets": [Dataset("payments", "")]}),
        ("lineage.dataset_hash", {"lineage": ["dataset_hash"]}, {"tags": {"dataset_sha256": "12ab34cd"}}),
        ("lineage.run", {"lineage": ["run"]}, {"run_status": ""}),
        ("lineage.run", {"lineage": ["run"]}, {"run_status": "RUNNING"}),
        ("lineage.signature", {"lineage": ["signature"]}, {"signature": False}),
        ("flavors", {"flavors": ["xgboost"]}, {}),
        ("metrics.auc.min", {"metrics": [{"name": "auc", "min": "0.9511"}]}, {}),
        ("metrics.auc.max", {"metrics": [{"name": "auc", "max": "0.9509"}]}, {}),
        ("metrics.auc.min", {"metrics": [{"name": "auc", "min": "0"}]}, {"metrics": {"auc": float("nan")}}),
        ("metrics.auc.min", {"metrics": [{"name": "auc", "min": "0"}]}, {"metrics": {"auc": float("inf")}}),
        ("same_as_stable.prep", {"same_as_stable": ["prep"]}, {"tags": {"prep": "p2"}}),
        ("tags.prep", {"tags": {"prep": "p2"}}, {}),
        ("tags.seen", {"tags": ["seen"]}, {"tags": {"seen": "  "}}),
        ("approvals", {"approvals": {"at_least": "2"}}, {}),
        ("max_age", {"max_age": "239h"}, {}),
        ("max_age", {"max_age": "239h"}, {"created_at": float("nan")}),
    ],
)
def test_less_than_what_is_needed_fails(gate: str, asked: dict[str, Any], change: dict[str, Any]) -> None:
    assert found(gates(**asked), msgspec.structs.replace(GOOD, **change)) == {gate: False}


def test_the_margin_to_stable_is_exact_and_goes_the_way_that_is_worse() -> None:
    higher = {"name": "auc", "min": "0.1", "no_worse_than_stable_by": "0.005"}
    lower = {"name": "auc", "no_worse_than_stable_by": "0.005", "better": "lower"}
    for metric, value, passes in (
        (higher, 0.945, True), (higher, 0.9449999, False), (higher, 0.99, True),
        (lower, 0.955, True), (lower, 0.9550001, False), (lower, 0.1, True),
    ):  # fmt: skip
        seen = msgspec.structs.replace(GOOD, metrics={"auc": value})
        stable = msgspec.structs.replace(STABLE, metrics={"auc": 0.95})
        passed = found(gates(metrics=[metric]), seen, stable)
        assert passed["metrics.auc.no_worse_than_stable_by"] is passes, (metric, value)


def test_a_stable_that_has_no_such_value_can_be_compared_with_nothing() -> None:
    asked = gates(metrics=[{"name": "auc", "no_worse_than_stable_by": "1"}], same_as_stable=["prep"])
    assert not any(found(asked, stable=None).values())
    assert not any(found(asked, stable=Seen()).values())


def test_whoever_trained_it_or_writes_the_change_does_not_approve_of_it() -> None:
    one = gates(approvals={"at_least": "1"})
    assert found(one) == {"approvals": True}
    assert found(one, authors=frozenset({"Grace"})) == {"approvals": False}
    assert found(gates(approvals={"at_least": "2", "not_by_author": "false"})) == {"approvals": True}


def test_a_finding_says_what_was_looked_at_where_and_what_was_found_and_needed() -> None:
    asked = gates(lineage=["git_commit"], metrics=[{"name": "auc", "min": "0.95", "no_worse_than_stable_by": "0.005"}])
    bare = msgspec.structs.replace(GOOD, git_commit="", metrics={"auc": 0.94})
    findings = evaluate(asked, bare, stable=STABLE, smoke=None, now=NOW)
    of = "of models:/fraud/4, run r4"
    beside = "0.951 or more (stable, models:/fraud/3, run r3 has 0.956)"
    assert list(map(str, findings)) == [
        f"lineage.git_commit failed: tag mlflow.source.git.commit {of} is nothing, needed is the hash of a git commit",
        f"metrics.auc.min failed: metric auc {of} is 0.94, needed is 0.95 or more",
        f"metrics.auc.no_worse_than_stable_by failed: metric auc {of} is 0.94, needed is {beside}",
    ]
    assert failed(findings) == list(findings)


def test_what_a_registry_says_in_no_known_form_is_taken_as_not_said() -> None:
    odd = seen_of({"uri": "models:/a/1", "resolved": "models:/a/1", "tags": 5})
    assert (odd.resolved, odd.tags) == ("models:/a/1", {})
    assert seen_of({"resolved": "models:/a/1", "unknown": 1, "metrics": {"auc": None}}).metrics == {"auc": None}


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=300), max_size=3),
    st.dictionaries(st.sampled_from(["auc", "log_loss"]), st.floats() | st.none(), max_size=2),
    st.text(max_size=50),
)
def test_whatever_a_registry_says_each_gate_has_a_finding_of_one_line(
    tags: dict[str, str], metrics: dict[str, float | None], text: str
) -> None:
    odd = Seen(tags={**tags, "prep": text}, metrics=metrics, git_commit=text, flavor=text, run_id=text, resolved=text)
    findings = evaluate(gates(**ALL), odd, stable=odd, smoke=Smoke(False, "there", text), now=NOW)
    assert len(findings) == len(found(gates(**ALL)))
    assert all(part for each in findings for part in (each.found, each.needed, each.where))
    assert all("\n" not in each.found for each in findings)
