"""Tests of router.registry.types."""

from __future__ import annotations

import msgspec
import pytest

from router.errors import OperatorError, RouterError, UpstreamError
from router.registry.types import Dataset, Failure, Resolved, failure_of


@pytest.mark.parametrize("kind", [OperatorError, UpstreamError])
def test_an_error_crosses_the_process_boundary(kind: type[RouterError]) -> None:
    wire = msgspec.json.encode(failure_of(kind("what", hint="how")))
    error = msgspec.json.decode(wire, type=Failure).as_error()
    assert type(error) is kind
    assert (error.message, error.hint) == ("what", "how")


def test_an_answer_is_complete_on_the_wire() -> None:
    answer = Resolved(uri="u", resolved="r", source="s", datasets=[Dataset(name="d", digest="1")])
    assert msgspec.json.decode(msgspec.json.encode(answer)) == {
        "uri": "u",
        "resolved": "r",
        "source": "s",
        "name": "",
        "version": "",
        "run_id": "",
        "model_id": "",
        "tags": {},
        "metrics": {},
        "git_commit": "",
        "datasets": [{"name": "d", "digest": "1"}],
        "signature": False,
        "flavor": "",
        "created_at": 0.0,
        "run_status": "",
    }
