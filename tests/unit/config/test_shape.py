"""Trees → models, and complaints in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from router.config.problems import Report
from router.config.shape import plain, read_shape, read_tree
from router.config.yaml import Broken


class Inner(BaseModel):
    """A map in a map."""

    model_config = ConfigDict(extra="forbid")

    weight: int = 0


class Outer(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    inner: Mapping[str, Inner] = {}
    choice: Literal["a", "b"] = "a"


def problems_of(text: str) -> list[str]:
    """The problems of `text` as an `Outer`."""
    report = Report("f")
    root = read_tree(text.encode(), report)
    assert root is not None
    assert (read_shape(Outer, root, report) is None) == bool(report.problems())
    return [str(problem) for problem in report.problems()]


def test_a_good_file_is_read() -> None:
    assert problems_of("inner: {x: {}}\nchoice: b") == []


def test_an_unknown_key_is_compared_with_those_of_its_own_map() -> None:
    assert problems_of("inner: {x: {wieght: 1}}") == ["f:1:13: inner.x.wieght: unknown key (did you mean 'weight'?)"]
    assert problems_of("iner: {}") == ["f:1:1: iner: unknown key (did you mean 'inner'?)"]


def test_a_complaint_without_words_of_ours_keeps_its_own() -> None:
    assert problems_of("choice: c") == ["f:1:9: choice: Input should be 'a' or 'b'"]


def test_broken_parts_stay_what_they_are() -> None:
    report = Report("f")
    root = read_tree(b"a: [*x, {b: c}]", report)
    assert root is not None
    assert plain(root) == {"a": [Broken(1, 5), {"b": "c"}]}


def test_a_file_may_be_empty_where_that_means_something() -> None:
    report = Report("f")
    assert read_tree(b"# nothing\n", report, may_be_empty=True) is not None
    assert report.problems() == ()
    assert read_tree(b"# nothing\n", report) is None
    assert len(report.problems()) == 1
    assert read_tree(b"[", report, may_be_empty=True) is None
