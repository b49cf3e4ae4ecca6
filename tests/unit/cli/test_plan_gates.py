"""A plan tells what the versions that come in show, of a registry that is asked for them alone."""

from __future__ import annotations

import pytest

from router.cli import plan_gates
from router.cli.gate import row_of, summary
from router.cli.gate_looks import Looker
from router.cli.plan_words import as_data, as_markdown, as_table
from router.config.schema import ModelConfig
from router.control.plan import compare
from router.control.plan_types import Assumptions, GateReport, TrafficPlan
from router.errors import OperatorError
from router.gates.findings import Finding
from tests.support.configs import config_of, loaded, text_of

GATES = "gates: {lineage: [git_commit]}\n"
MISSING = Finding(
    gate="lineage.git_commit", passed=False, looked_at="tag t", where="m/4", found="nothing", needed="one"
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which version was asked about in which region; nobody has a commit."""
    questions: list[tuple[str, str]] = []

    async def look(looker: Looker, config: ModelConfig, version: str, region: str) -> GateReport:
        questions.append((version, region))
        return GateReport(version, config.stable_in(region), (MISSING,), note="later")

    monkeypatch.setattr(Looker, "look", look)
    return questions


def planned(before: str | None, after: str) -> TrafficPlan:
    old = loaded(config_of(before)) if before else loaded()
    new = loaded(config_of(after))
    plan = compare(old, new, Assumptions())
    return plan_gates.with_gates(plan, new.configs, lambda: "http://registry")


@pytest.mark.parametrize(
    ("before", "after", "questions"),
    [
        (text_of(split="v3: 100"), text_of(more=GATES), [("v4", "default")]),
        (text_of(), text_of(split="v3: 80, v4: 20", more=GATES), []),
        (text_of(), text_of(split="v4: 100", stable="v4", more=GATES), [("v4", "default")]),
        (None, text_of(more=GATES), [("v4", "default")]),
        (None, text_of(), []),
        (text_of(split="v3: 100"), text_of(split="v3: 100", more=GATES), []),
    ],
)
def test_asked_is_who_comes_in(
    asked: list[tuple[str, str]], before: str | None, after: str, questions: list[tuple[str, str]]
) -> None:
    planned(before, after)
    assert asked == questions


def test_a_plan_says_in_each_form_what_is_missing(asked: list[tuple[str, str]]) -> None:
    plan = planned(text_of(split="v3: 100"), text_of(more=GATES))
    assert "fraud: gates: v4 fails 1 of 1 gates (later)" in as_table(plan, "main")
    assert "lineage.git_commit failed: tag t of m/4 is nothing, needed is one" in as_table(plan, "main")
    assert "- gates: v4 fails 1 of 1 gates (later)" in as_markdown(plan, "main")
    (report,) = as_data(plan, "main")["models"][0]["gates"]
    assert (report["version"], report["passed"], report["findings"][0]["needed"]) == ("v4", False, "one")


def test_a_registry_that_cannot_be_told_is_said_in_the_plan(asked: list[tuple[str, str]]) -> None:
    def unknown() -> str:
        raise OperatorError("router.yaml has problems")

    new = loaded(config_of(text_of(more=GATES)))
    plan = compare(loaded(config_of(text_of(split="v3: 100"))), new, Assumptions())
    told = as_table(plan_gates.with_gates(plan, new.configs, unknown), "main")
    assert "v4 cannot be judged, its gates could not be looked at: router.yaml has problems" in told
    assert asked == []


def test_more_versions_than_anybody_waits_for_are_named(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_gates, "MOST", 1)
    plan = planned(text_of(split="v3: 100"), text_of(split="v3: 80, v4: 10, v5: 10", more=GATES))
    assert len(asked) == 1
    assert [bool(report.problem) for report in plan.models[0].gates] == [False, True]


def test_a_report_is_summed_up_in_a_line() -> None:
    passed = Finding(gate="g", passed=True, looked_at="a", where="b", found="c", needed="d")
    assert summary(GateReport("v4", "v3", (passed,))) == "v4 passes all 1 gates"
    assert row_of(passed) == ["g", "passed", "a", "b", "c", "d"]


def test_whoever_wrote_the_change_and_approved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    approved = Finding(gate="approvals", passed=True, looked_at="tag", where="m/4", found="ada, grace", needed="1")

    async def look(looker: Looker, config: ModelConfig, version: str, region: str) -> GateReport:
        return GateReport(version, "v3", (approved,))

    monkeypatch.setattr(Looker, "look", look)
    new = loaded(config_of(text_of(more="gates: {approvals: {at_least: 1}}\n")))
    plan = compare(loaded(config_of(text_of(split="v3: 100"))), new, Assumptions())
    plan = plan_gates.with_gates(plan, new.configs, lambda: None)
    told = plan_gates.with_own_approvals(plan, new.configs, frozenset({"Ada", "ada@example.com"}))
    assert [warned.message for warned in told.models[0].warnings if warned.kind == "approval"] == [
        "ada approved v4 and wrote this change; let somebody else approve"
    ]
