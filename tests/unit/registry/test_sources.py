"""Tests of router.registry.sources: the allow-list."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import OperatorError
from router.registry import sources


@pytest.mark.parametrize(
    ("resolved", "source", "allowed"),
    [
        ("models:/fraud/3", "models:/m-1", ["models:/"]),
        ("models:/fraud/3", "models:/m-1", ["models:/fraud"]),
        ("models:/m-1", "models:/m-1", ["models:/"]),
        ("models:/fraud/3", "mlflow-artifacts:/0/1/artifacts/m", ["models:/fraud/"]),
        ("models:/fraud/3", "s3://bucket/models/m", ["models:/", "s3://bucket/models"]),
        ("runs:/1/m", "models:/m-1", ["runs:/"]),
        ("/srv/models/a", "/srv/models/a", ["/srv/models"]),
        ("/anywhere", "/anywhere", []),
    ],
)
def test_what_is_allowed(resolved: str, source: str, allowed: list[str]) -> None:
    sources.check("uri", resolved, source, allowed)


@pytest.mark.parametrize(
    ("resolved", "source", "place"),
    [
        ("models:/fraud-2/3", "models:/m-1", "models:/fraud-2/3"),
        ("models:/m-1", "models:/m-1", "models:/m-1"),
        ("models:/fraud/3", "file:///etc", "file:///etc"),
        ("models:/fraud/3", "s3://other/m", "s3://other/m"),
        ("runs:/1/m", "models:/m-1", "runs:/1/m"),
        ("/srv/models-2/a", "/srv/models-2/a", "/srv/models-2/a"),
        ("/srv/models/../../etc", "", "/srv/models/../../etc"),
    ],
)
def test_what_is_refused(resolved: str, source: str, place: str) -> None:
    with pytest.raises(OperatorError, match="where no model may come from") as refused:
        sources.check("uri", resolved, source, ["models:/fraud", "/srv/models", "s3://bucket"])
    assert place in refused.value.message
    assert "model_sources" in refused.value.hint


def test_a_link_leads_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OperatorError):
        sources.check("uri", str(tmp_path / "allowed" / "link"), "", [str(tmp_path / "allowed")])
