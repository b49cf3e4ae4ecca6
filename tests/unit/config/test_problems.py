"""How problems read."""

from __future__ import annotations

from router.config.problems import (
    MAX_PROBLEMS,
    Problem,
    Report,
    closest,
    did_you_mean,
    one_of,
    path_text,
    printable,
    quote,
)


def test_a_problem_reads_as_place_path_and_message() -> None:
    assert str(Problem("m.yaml", 3, 7, "a.b", "is wrong")) == "m.yaml:3:7: a.b: is wrong"
    assert str(Problem("m.yaml", 1, 1, "", "is empty")) == "m.yaml:1:1: is empty"


def test_a_files_name_cannot_write_to_the_terminal() -> None:
    assert str(Problem("a\x1b[31m\n\udcff.yaml", 1, 1, "", "x")) == "a\\x1b[31m\\n\\udcff.yaml:1:1: x"


def test_a_path_reads_as_keys_and_indices() -> None:
    assert path_text(("versions", "v4", "upstreams", 0)) == "versions.v4.upstreams[0]"
    assert path_text(("a b", "c\n")) == "'a b'.'c\\n'"
    assert path_text((0, "a")) == "[0].a"
    assert path_text(()) == ""


def test_quoted_text_is_printable_and_short() -> None:
    assert quote("it\t") == "'it\\t'"
    assert quote("x" * 100) == f"'{'x' * 60}…'"
    assert printable("é\u202e") == "é\\u202e"


def test_problems_come_in_the_order_of_the_file() -> None:
    report = Report("m.yaml", "m")
    report.add(2, 1, ("b",), "second")
    report.add(1, 9, ("a",), "first")
    assert [problem.message for problem in report.problems()] == ["first", "second"]
    assert {problem.model for problem in report.problems()} == {"m"}


def test_a_report_has_an_end() -> None:
    report = Report("m.yaml")
    for line in range(1, MAX_PROBLEMS + 1):
        assert not report.full
        report.add(line, 1, (), "wrong")
    assert len(report.problems()) == MAX_PROBLEMS
    report.add(500, 1, (), "wrong")
    report.add(501, 1, (), "wrong")
    assert report.full
    *_, last = report.problems()
    assert last.message == "and more: only the first 100 problems of a file are shown"
    assert len(report.problems()) == MAX_PROBLEMS + 1


def test_a_close_candidate_is_suggested() -> None:
    assert did_you_mean("wieght", ["model", "weight"]) == " (did you mean 'weight'?)"
    assert did_you_mean("EU-West", ["eu-west", "us-east"]) == " (did you mean 'eu-west'?)"
    assert did_you_mean("zzz", ["model", "weight"]) == ""
    assert closest("x" * 1000, ["x" * 1000]) == ""


def test_where_none_is_close_the_candidates_are_listed() -> None:
    assert one_of("v5", ["v3", "v4"]) == " (there are 'v3', 'v4')"
    assert one_of("x", ["v3"]) == " (there is 'v3')"
    assert one_of("zz", [f"v{n}" for n in range(9)]) == " (there are 'v0', 'v1', 'v2', 'v3', 'v4', …)"
    assert one_of("wieght", ["weight"]) == " (did you mean 'weight'?)"
