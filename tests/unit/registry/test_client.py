"""Tests of router.registry.client that need no MLflow; the others are in tests/integration/test_registry.py."""

from __future__ import annotations

from router.registry.client import child_environment


def test_the_router_keeps_its_secrets_and_the_store_gets_its_own() -> None:
    ours = {"CANARY_ROUTER_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "a", "MLFLOW_TRACKING_TOKEN": "m", "PATH": "/bin"}
    assert child_environment(ours, "http://mlflow") == {
        "AWS_SECRET_ACCESS_KEY": "a",
        "MLFLOW_TRACKING_TOKEN": "m",
        "PATH": "/bin",
        "MLFLOW_TRACKING_URI": "http://mlflow",
    }


def test_only_the_registry_that_is_set_is_asked() -> None:
    ours = {"MLFLOW_TRACKING_URI": "http://elsewhere", "MLFLOW_REGISTRY_URI": "http://elsewhere"}
    assert child_environment(ours, None) == {}
