"""Tests of router.serving.refusals: what MLflow says, and what of it leaves."""

from __future__ import annotations

import json

import pytest

from router.serving.refusals import masked


class Fault:
    """What MLflow's exception shows of itself."""

    def __init__(self, message: str) -> None:
        self.message = message

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": "BAD_REQUEST", "message": self.message, "stack_trace": "secret"})

    def get_http_status_code(self) -> int:
        return 400


NOT_THE_SCHEMA = "The input does not fit the model's signature."
MISSING = """Failed to predict data ' age\n0 secret'. \nError: Failed to enforce schema of data ' age\n0 secret' with
schema '['age': double (required), 'name': string (required)]'. Error: Model is missing inputs ['name', 'age']. Note
that there were extra inputs: ['secret']."""
COLUMN = "Incompatible input types for column age. Can not safely convert float64 to int64"
FOREIGN = COLUMN.replace("age", "secret")
SHAPE = "Shape of input (2, 3) does not match expected shape (-1, 4)"
CONVERSION = "Failed to convert column age to type 'float64'"
JSON = "Invalid input. Ensure that input is a valid JSON formatted string. Input: secret"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (MISSING, f"{NOT_THE_SCHEMA} The model needs the inputs age, name."),
        (f"data 'secret'. Error: {COLUMN}. Hint: secret", f"{NOT_THE_SCHEMA} {COLUMN}."),
        (f"{FOREIGN}.", NOT_THE_SCHEMA),
        (f"secret {SHAPE}. secret", f"{NOT_THE_SCHEMA} {SHAPE}."),
        (f"Invalid input. {CONVERSION}. Error: 'secret'", f"Invalid input. {CONVERSION}."),
        (JSON, "Invalid input. The body is not valid JSON."),
        ("secret", NOT_THE_SCHEMA),
    ],
)
def test_only_the_models_own_words_leave(theirs: str, ours: str) -> None:
    answer = masked(Fault(theirs), ("age", "name"))
    assert answer.status == 400
    assert json.loads(answer.body) == {"error_code": "BAD_REQUEST", "message": ours}
