"""Tests of router.cli.demo_edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.cli.demo_edit import check_move, edit_weights, in_force
from router.cli.demo_traffic import Told, Visit
from router.errors import OperatorError, UpstreamError

CONFIG = """\
regions:
  eu-west: {v1: 90, v2: 10}   # by header
  us-east: {v1: 100}
"""
BEFORE = {"patient-00001": "v1", "patient-00002": "v1", "patient-00003": "v2"}


def told(patient: int, version: str, sent: float) -> Told:
    """One answer, which took half a second."""
    return Told(Visit("eu-west", "http://x", patient), version, sent, 0.5, right=True, fault="")


def test_one_line_changes_and_nothing_else(tmp_path: Path) -> None:
    config = tmp_path / "m.yaml"
    config.write_text(CONFIG)
    edit_weights(config, "eu-west", {"v1": 50, "v2": 50})
    assert config.read_text() == CONFIG.replace("{v1: 90, v2: 10}", "{v1: 50, v2: 50}")
    assert [path.name for path in tmp_path.iterdir()] == ["m.yaml"]


def test_a_config_without_the_line_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "m.yaml"
    config.write_text(CONFIG)
    with pytest.raises(OperatorError, match="no line with the weights of asia"):
        edit_weights(config, "asia", {"v1": 100})
    assert config.read_text() == CONFIG


def test_in_force_is_when_a_moved_patient_was_answered() -> None:
    answers = [told(3, "v2", 10.1), told(1, "v1", 10.2), told(2, "v2", 10.4), told(1, "v2", 10.6)]
    assert in_force(BEFORE, answers, "v2", 10.0) == pytest.approx(0.9)


def test_weights_that_never_moved_anybody_are_a_failure() -> None:
    with pytest.raises(UpstreamError, match="never came into force"):
        in_force(BEFORE, [told(1, "v1", 11.0)], "v2", 10.0)


def test_the_share_is_of_requests_after_the_edit() -> None:
    later = [told(1, "v1", 20.0), told(2, "v2", 20.0)] * 100
    assert check_move(BEFORE, [told(1, "v1", 9.0), *later], "v2", 50, 10.0) == 50


def test_nobody_may_move_back() -> None:
    with pytest.raises(UpstreamError, match="1 patients of v2 were moved back"):
        check_move(BEFORE, [told(3, "v1", 20.0)], "v2", 50, 10.0)


def test_a_share_that_is_off_fails() -> None:
    with pytest.raises(UpstreamError, match=r"v2 got 0\.0 % of 100 requests after the edit"):
        check_move(BEFORE, [told(1, "v1", 20.0)] * 100, "v2", 50, 10.0)
