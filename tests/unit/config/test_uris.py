"""Where models come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.uris import anchored, check_uri
from tests.unit.config.refusal import refusal


@pytest.mark.parametrize(
    "text",
    [
        "models:/fraud/3",
        "models:/m-fraud/3",
        "models:/catalog.schema.fraud/12",
        "models:/card fraud/3",
        "models:/fraud@champion",
        "models:/fraud@eu_west_champion",
        "models:/m-0123456789abcdef",
        "runs:/0123456789abcdef/model",
        "runs:/0123/sub/model",
        "/srv/models/fraud",
        "./fraud",
        "../fraud",
        ".",
        "artifacts/fraud",
        "modelstore/fraud",
    ],
)
def test_each_form_is_taken_as_it_is(text: str) -> None:
    assert check_uri(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:/fraud/Production", "'Production' is a stage: one global slot"),
        ("models:/fraud/staging", "'staging' is a stage"),
        ("models:/fraud/Archived", "is a stage"),
        ("models:/fraud/None", "is a stage"),
        ("models:/fraud/latest", "decided by nobody; name a version (models:/fraud/3)"),
        ("models:/fraud/canary", "not a version number, and stages are refused"),
        ("models:/fraud/0", "not a version number"),
        ("models:/fraud/03", "not a version number"),
        ("models:/fraud/3/x", "not a version number"),
        ("models:/fraud/", "not a version number"),
        ("models:/fraud@1", "alias '1' looks like version 1"),
        ("models:/fraud@", "'' is not an alias"),
        ("models:/fraud@a b", "'a b' is not an alias"),
        ("models:/fraud", "names no version; write models:/fraud/3 or models:/fraud@alias"),
        ("models:/", "names no version"),
        ("models:/@a", "is not the name of a registered model"),
        ("models:/../3", "is not the name of a registered model"),
        ("models:/ /3", "is not the name of a registered model"),
        ("models://host/fraud/3", "needs one slash after 'models:'"),
        ("models:fraud/3", "needs one slash after 'models:'"),
        ("runs:/abc", "a path inside its artifacts"),
        ("runs:/abc/../x", "a path inside its artifacts"),
        ("runs:/a b/x", "a path inside its artifacts"),
        ("runs:/abc/x/", "a path inside its artifacts"),
        ("s3://bucket/model", "'s3:' is not a scheme that is known here"),
        ("file:///srv/model", "'file:' is not a scheme"),
        ("model:/fraud/3", "'model:' is not a scheme"),
        ("models/fraud/3", "did you mean 'models:/fraud/3'?) Write './models/fraud/3' for the path"),
        ("run/abc/model", "did you mean 'runs:/abc/model'?"),
        ("fraud", "./fraud for a folder beside models/"),
        ("~/fraud", "write the whole path"),
        ("", "is not a model URI"),
        (" models:/fraud/3", "is not a model URI"),
        ("models:/fraud\x00/3", "is not a model URI"),
    ],
)
def test_what_is_no_model_or_moves_by_itself_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_uri(text)


def test_a_relative_path_starts_at_the_repository() -> None:
    root = Path("/srv/configs")
    assert anchored("./fraud", root) == "/srv/configs/fraud"
    assert anchored("../fraud", root) == "/srv/fraud"
    assert anchored("/fraud", root) == "/fraud"
    assert anchored("models:/fraud/3", root) == "models:/fraud/3"
    assert anchored("./fraud", None) == "./fraud"


@given(st.text(max_size=40) | st.text(alphabet="models:/runs@m-13. \n", max_size=30))
def test_text_is_taken_or_refused(text: str) -> None:
    assert refusal(check_uri, text).isprintable()
