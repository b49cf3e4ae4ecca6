"""Tests of router.registry.faults."""

from __future__ import annotations

import pytest

from router.errors import OperatorError, RouterError, UpstreamError
from router.registry.faults import mapped

URI = "models:/fraud/3"
REGISTRY = "http://alice:s3cret@mlflow:5000"


class MlflowLikeError(Exception):
    """Looks like MLflow's exception: a message and an `error_code`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.error_code = code


def outcome(fault: BaseException) -> RouterError:
    """What becomes of `fault`."""
    with pytest.raises(RouterError) as raised, mapped(URI, REGISTRY):
        raise fault
    assert "s3cret" not in str(raised.value)
    assert raised.value is fault or raised.value.__cause__ is fault
    return raised.value


def test_our_own_errors_pass_as_they_are() -> None:
    own = OperatorError("mine")
    assert outcome(own) is own


def test_a_connection_fault_is_found_down_the_chain() -> None:
    outer = MlflowLikeError(f"API request to {REGISTRY} failed", "INTERNAL_ERROR")
    outer.__context__ = ConnectionRefusedError(111, "Connection refused")
    error = outcome(outer)
    assert isinstance(error, UpstreamError)
    assert "http://mlflow:5000 cannot be reached: connection refused" in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("RESOURCE_DOES_NOT_EXIST", OperatorError, "has no such model"),
        ("PERMISSION_DENIED", OperatorError, "refuses our credentials"),
        ("UNAUTHENTICATED", OperatorError, "refuses our credentials"),
        ("ENDPOINT_NOT_FOUND", UpstreamError, "does not answer like an MLflow server"),
        ("TEMPORARILY_UNAVAILABLE", UpstreamError, "answered TEMPORARILY_UNAVAILABLE: told"),
        ("INTERNAL_ERROR", UpstreamError, "cannot be used: MlflowLikeError: told"),
    ],
)
def test_codes_of_mlflow(code: str, kind: type[RouterError], says: str) -> None:
    error = outcome(MlflowLikeError(f"{code}: told\nand a page of stack", code))
    assert type(error) is kind
    assert says in error.message
    assert "stack" not in error.message


def test_an_answer_that_is_no_answer() -> None:
    error = outcome(KeyError("model_version"))
    assert isinstance(error, UpstreamError)
    assert "cannot be used: KeyError" in error.message


def test_a_missing_store_library_is_for_the_operator() -> None:
    error = outcome(ModuleNotFoundError("No module named 'boto3'"))
    assert isinstance(error, OperatorError)
    assert "boto3" in error.message


def test_a_full_disk_names_the_file() -> None:
    error = outcome(OSError(28, "No space left on device", "/state/models/x"))
    assert isinstance(error, OperatorError)
    assert error.message == "/state/models/x: No space left on device"
