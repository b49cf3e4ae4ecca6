"""MLflow's refusals, less what they repeat of the request.

Rules:
1. Status and error code are MLflow's.
2. A message leaves only in words of a known pattern, whose parts are the model's: column names and types of its
   signature, shapes. Everything else MLflow says may hold a row, and is replaced by a sentence of ours.
3. No stack trace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from router.serving.answers import Answer, refusal

_ONE_OF = (
    "The input must be a JSON dictionary with exactly one of dataframe_split, dataframe_records, inputs, instances."
)
_NOT_THE_SCHEMA = "The input does not fit the model's signature."
# Each replaces the whole message; `{name}` is the match's group.
_FIXED = (
    ("Ensure that input is a valid JSON formatted string", "Invalid input. The body is not valid JSON."),
    ("valid UTF-8 encoded string", "Invalid input. The body is not valid UTF-8."),
    ("valid CSV-formatted Pandas DataFrame", "The body cannot be read as CSV."),
    ("valid Parquet Pandas DataFrame", "The body cannot be read as Parquet."),
    ("The input must be a JSON dictionary with exactly one", _ONE_OF),
    ('One of "instances" and "inputs" must be specified', _ONE_OF),
    (
        "Dataframe records format must be a list of records",
        "Invalid input. dataframe_records must be a list of records.",
    ),
    (
        "Dataframe split format must",
        "Invalid input. dataframe_split must be a dictionary with data, and optionally columns and index.",
    ),
    ("Provided dataframe_", "Invalid input. The rows do not make a data frame."),
    (
        "The length of values for each input/column name are not the same",
        "Invalid input. The columns differ in length.",
    ),
    ("payload must be a dictionary with 'inputs' key", "Invalid input. The request must have the key inputs."),
    ("Invalid parameters found", "The params do not fit the model's signature."),
    ("Parameters must be a dictionary", "The params must be a dictionary."),
    ("un-named model signature", "Invalid input. The model takes one array, or one value."),
)
_SHAPES = re.compile(r"Shape of input (\([\d, ]*\)) does not match expected shape (\([-\d, ]*\))")
_TYPES = re.compile(r"dtype of input ([\w<>|\[\]]+) does not match expected dtype ([\w<>|\[\]]+)")
_COLUMN = re.compile(r"Incompatible input types for column (.+?)\. Can not safely convert (\S+) to ([\w\[\]<>|]+)")
_CONVERSION = re.compile(r"Failed to convert column (.+?) to type '([^']+)'")


def masked(fault: Any, names: Collection[str]) -> Answer:
    """The answer for MLflow's exception `fault`; `names` are the columns of the model's signature."""
    code = json.loads(fault.serialize_as_json()).get("error_code", "BAD_REQUEST")
    return refusal(fault.get_http_status_code(), code, _words(str(fault.message), names))


def _words(message: str, names: Collection[str]) -> str:
    return _of_schema(message, names) or next((ours for theirs, ours in _FIXED if theirs in message), _NOT_THE_SCHEMA)


def _of_schema(message: str, names: Collection[str]) -> str:
    """What MLflow says of the signature, where the request's own words can be told apart; else nothing."""
    if found := _SHAPES.search(message):
        return f"{_NOT_THE_SCHEMA} {found[0]}."
    if found := _TYPES.search(message):
        return f"{_NOT_THE_SCHEMA} {found[0]}."
    if (found := _COLUMN.search(message)) and found[1] in names:
        return f"{_NOT_THE_SCHEMA} {found[0]}."
    if (found := _CONVERSION.search(message)) and found[1] in names:
        return f"Invalid input. {found[0]}."
    if "Model is missing inputs" in message:
        return f"{_NOT_THE_SCHEMA} {_missing(message, names)}"
    return ""


def _missing(message: str, names: Collection[str]) -> str:
    """The missing columns: those that MLflow lists behind its words and that the signature has."""
    listed = message.rpartition("Model is missing inputs [")[2].partition("]. ")[0]
    absent = [name for name in names if repr(name) in listed]
    return f"The model needs the inputs {', '.join(absent)}." if absent else "Inputs are missing."
