"""Tests of router.registry.uri."""

from __future__ import annotations

import pytest

from router.errors import OperatorError
from router.registry.uri import ByAlias, ByModelId, ByRun, ByVersion, LocalPath, ModelUri, parse


@pytest.mark.parametrize(
    ("uri", "means"),
    [
        ("models:/fraud/3", ByVersion("fraud", "3")),
        ("models:/a model with spaces/12", ByVersion("a model with spaces", "12")),
        ("models:/fraud@champion", ByAlias("fraud", "champion")),
        ("models:/someone@example.com@eu_west_champion", ByAlias("someone@example.com", "eu_west_champion")),
        ("models:/m-901654ac49b74d10957a168afe251d5c", ByModelId("m-901654ac49b74d10957a168afe251d5c")),
        ("runs:/2c6aeb3b/model", ByRun("2c6aeb3b", "model")),
        ("runs:/2c6aeb3b/a/b", ByRun("2c6aeb3b", "a/b")),
        ("models/fraud", LocalPath("models/fraud")),
        ("/srv/model@home", LocalPath("/srv/model@home")),
    ],
)
def test_the_four_forms_and_local_paths(uri: str, means: ModelUri) -> None:
    assert parse(uri) == means


@pytest.mark.parametrize("stage", ["Production", "staging", "ARCHIVED", "None"])
def test_a_stage_is_refused_with_the_reason(stage: str) -> None:
    with pytest.raises(OperatorError, match="names a stage: one global slot") as refused:
        parse(f"models:/fraud/{stage}")
    assert "models:/fraud@champion" in refused.value.hint


def test_a_numeric_alias_is_refused_with_what_was_probably_meant() -> None:
    with pytest.raises(OperatorError, match="reads like a version number") as refused:
        parse("models:/fraud@1")
    assert "models:/fraud/1" in refused.value.hint


def test_latest_is_refused_because_nobody_decides_when_it_moves() -> None:
    with pytest.raises(OperatorError, match="change with every registration"):
        parse("models:/fraud/latest")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "models:",
        "models:/",
        "models://fraud/3",
        "models:fraud/3",
        "models:/fraud",
        "models:/fraud/",
        "models:/fraud/0",
        "models:/fraud/03",
        "models:/fraud/-1",
        "models:/fraud/1/2",
        "models:/ /1",
        "models:/../1",
        "models:/@champion",
        "models:/fraud@",
        "models:/fraud@two words",
        "models:/m-",
        "runs:/",
        "runs:/abc",
        "runs:/abc/",
        "runs:/abc/../other",
        "runs:/abc//model",
        "runs:/../model",
        "s3://bucket/model",
        "http://models.internal/3",
        "models:/fraud/3\n",
        "models:/fra\x00ud/3",
    ],
)
def test_everything_else_is_refused_with_a_hint(uri: str) -> None:
    with pytest.raises(OperatorError) as refused:
        parse(uri)
    assert refused.value.hint
