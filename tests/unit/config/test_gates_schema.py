"""What `gates` may say, and what is refused at its place."""

from __future__ import annotations

import pytest

from router.config.load import load_model
from tests.support.configs import config_of, text_of


def problems_of(gates: str) -> list[str]:
    _, problems = load_model("fraud", text_of(more=f"gates: {gates}\n").encode(), file="f", regions=None)
    return [f"{problem.path}: {problem.message}" for problem in problems]


def test_gates_are_read_as_operators_write_them() -> None:
    config = config_of(
        text_of(
            more="gates:\n  lineage: [git_commit, run]\n  metrics:\n    - {name: auc, min: 0.95, "
            "no_worse_than_stable_by: 0.005}\n    - {name: log_loss, max: 0.12}\n  tags: [validated]\n"
            "  approvals: {at_least: 2}\n  max_age: 2160h\n  smoke: true\n"
        )
    )
    gates = config.gates
    assert gates is not None
    assert gates.lineage == ("git_commit", "run")
    assert [metric.lower_is_better for metric in gates.metrics] == [False, True]
    assert gates.tags == {"validated": ""}
    assert gates.approvals is not None
    assert (gates.approvals.tag, gates.approvals.at_least, gates.approvals.not_by_author) == ("approved_by", 2, True)
    assert (gates.max_age, gates.smoke, gates.compares) == (2160 * 3600.0, True, True)
    assert type(gates).model_validate(gates.model_dump()) == gates
    assert config_of(text_of()).gates is None


@pytest.mark.parametrize(
    ("gates", "problem"),
    [
        ("{}", "gates: asks for nothing"),
        ("[]", "gates: must be a map, not a list"),
        ("{linage: [run]}", "gates.linage: unknown key (did you mean 'lineage'?)"),
        ("{lineage: [git_comit]}", "gates.lineage[0]: no lineage is called 'git_comit' (did you mean 'git_commit'?)"),
        ("{metrics: [{name: auc}]}", "gates.metrics[0]: asks for nothing; give it min"),
        ("{metrics: [{name: auc, min: high}]}", "gates.metrics[0].min: must be a number such as 0.95, not 'high'"),
        ("{metrics: [{name: auc, min: nan}]}", "gates.metrics[0].min: must be a number"),
        ("{metrics: [{name: auc, min: 2, max: 1}]}", "gates.metrics[0]: min is more than max"),
        ("{metrics: [{name: auc, no_worse_than_stable_by: -1}]}", "must be 0 or more"),
        ("{metrics: [{name: auc, min: 1, better: more}]}", "must be higher or lower, not 'more'"),
        ("{flavors: []}", "gates.flavors: is empty"),
        ("{flavors: [sklearn, sklearn]}", "gates.flavors: the same entry is here twice"),
        ("{max_age: 0s}", "gates.max_age: must be more than 0"),
        ("{smoke: yes}", "gates.smoke: must be true or false, not 'yes'"),
        ("{tags: {'': x}}", "must be the name of a tag"),
    ],
)
def test_what_gates_cannot_be_is_refused_at_its_place(gates: str, problem: str) -> None:
    assert any(problem in told for told in problems_of(gates)), problems_of(gates)
