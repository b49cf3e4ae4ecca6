"""MLflow, for the tests that measure what the server reads and writes against it."""

from __future__ import annotations

import importlib
import warnings

import pytest


@pytest.fixture(scope="session")
def mlflow_imported() -> None:
    """MLflow is imported, with the warnings that this brings from its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (
            "pandas",
            "mlflow.pyfunc.scoring_server",
            "mlflow.models",
            "mlflow.types",
            "mlflow.utils.proto_json_utils",
        ):
            importlib.import_module(name)
