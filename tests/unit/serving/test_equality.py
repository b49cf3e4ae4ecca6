"""Tests of router.serving.{columns,arrays,writing,proof}: what is read and written without MLflow is what MLflow makes.

Rules:
1. MLflow is imported here, where it is the measure: every example is put to its own functions as well.
"""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.serving.proof import agree, batches_agree, identical, reader_for
from router.serving.scoring import Scorer
from router.serving.writing import Writer

pytestmark = pytest.mark.usefixtures("mlflow_imported")
RUNS = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40),
    "long": st.integers(-(2**64), 2**64),
    "integer": st.integers(-(2**32), 2**32),
    "boolean": st.booleans(),
    "string": st.text(max_size=5),
}
ODD = (
    st.none()
    | st.booleans()
    | st.text(max_size=2)
    | st.lists(st.floats(allow_nan=False), max_size=2)
    | st.just(float("nan"))
)


class Model:
    """What MLflow loads, of a model that returns its input."""

    def predict(self, data: Any) -> Any:
        return data


def scorer_of(schema: Any) -> Scorer:
    """A scorer whose model has `schema`."""
    from mlflow.models import Model as Metadata
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PyFuncModel

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    signature = None if schema is None else ModelSignature(inputs=schema)
    return Scorer(PyFuncModel(Metadata(signature=signature), Model()))


def columns(*kinds: str) -> Any:
    """A schema with a column of each kind, named after it."""
    from mlflow.types import ColSpec, Schema

    return Schema([ColSpec(kind, f"{kind} {number}") for number, kind in enumerate(kinds)])


SCHEMAS = [("double",), ("double", "double"), ("float", "double"), ("long", "integer", "boolean"), ("string", "double")]
SCORERS: dict[Any, Any] = {}


def prepared(kinds: tuple[str, ...]) -> Any:
    """Scorer and reader of a schema, made once."""
    if kinds not in SCORERS:
        scorer = scorer_of(columns(*kinds))
        SCORERS[kinds] = scorer, reader_for(scorer)
    return SCORERS[kinds]


@st.composite
def requests(draw: Any) -> tuple[tuple[str, ...], str]:
    """A schema, and the text of a request that mostly fits it."""
    kinds = draw(st.sampled_from(SCHEMAS))
    names = [f"{kind} {number}" for number, kind in enumerate(kinds)]
    cells = st.tuples(*(VALUES[kind] for kind in kinds))
    rows = [list(row) for row in draw(st.lists(cells, min_size=1, max_size=4))]
    if draw(st.integers(0, 4)) == 0:
        rows[0][draw(st.integers(0, len(kinds) - 1))] = draw(ODD)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    by_column = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    order = draw(st.permutations(names))
    forms = [
        {"dataframe_split": {"columns": names, "data": rows}},
        {"dataframe_split": {"columns": order, "data": rows}},
        {"dataframe_records": records},
        *({key: value} for key in ("inputs", "instances") for value in (records, by_column)),
        {"inputs": [{name: record[name] for name in order} for record in records]},
    ]
    return kinds, json.dumps(draw(st.sampled_from(forms)), ensure_ascii=draw(st.booleans()))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@given(requests())
@RUNS
def test_rows_that_are_read_are_what_mlflow_reads(request_: tuple[tuple[str, ...], str]) -> None:
    kinds, text = request_
    scorer, reader = prepared(kinds)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    piece = reader.read(body)
    if piece is None:
        return
    assert identical(reader.join([piece]), scorer.seen_for(body)), text
    doubled = reader.join([piece, piece])
    assert len(doubled) == 2 * piece.rows


@pytest.mark.parametrize("kinds", SCHEMAS)
def test_the_usual_forms_are_read_without_mlflow(kinds: tuple[str, ...]) -> None:
    _, reader = prepared(kinds)
    read = {form for form, bodies in reader.samples().items() if all(reader.read(body) for body in bodies)}
    assert {"dataframe_split", "dataframe_records"} <= read
    if set(kinds) == {"double"}:
        assert len(read) == 6


@given(
    st.sampled_from(["bare", "float32", "float64", "int64"]),
    st.lists(st.lists(VALUES["double"] | VALUES["float"], min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["inputs", "instances"]),
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@RUNS
def test_arrays_that_are_read_are_what_mlflow_reads(kind: str, rows: list[list[float]], key: str) -> None:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    if kind not in SCORERS:
        schema = None if kind == "bare" else Schema([TensorSpec(np.dtype(kind), (-1, 2))])
        SCORERS[kind] = (scorer := scorer_of(schema)), reader_for(scorer)
    scorer, reader = SCORERS[kind]
    body = json.dumps({key: rows}).encode()
    piece = reader.read(body)
    if piece is not None:
        assert identical(reader.join([piece]), scorer.seen_for(body)), rows


def test_a_form_that_mlflow_reads_otherwise_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = scorer_of(columns("double"))
    original = scorer.seen_for
    monkeypatch.setattr(scorer, "seen_for", lambda body: original(body) * (2 if b"records" in body else 1))
    reader = reader_for(scorer)
    assert reader is not None
    assert reader.read(b'{"dataframe_records": [{"double 0": 1.5}]}') is None
    assert reader.read(b'{"inputs": [{"double 0": 1.5}]}') is not None


@st.composite
def predictions(draw: Any) -> Any:
    """What models return."""
    import numpy as np
    import pandas as pd

    numbers = draw(st.lists(st.floats() | st.integers(-(2**60), 2**60), min_size=1, max_size=4))
    kind = draw(st.sampled_from(["<f8", "<f4", "<i8", "?", "O", "<U3"]))
    array = np.array(numbers, dtype=object).astype(kind) if kind != "<i8" else np.arange(len(numbers))
    return draw(
        st.sampled_from(
            [
                array,
                array.reshape(-1, 1),
                list(array),
                pd.Series(array, name="score"),
                pd.Series(array),
                pd.DataFrame({"a": array, "b": numbers}),
                pd.DataFrame({"a": array, 3: array}),
                {"x": array},
            ]
        )
    )


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@given(predictions())
@RUNS
def test_predictions_are_written_as_mlflow_writes_them(raw: Any) -> None:
    from mlflow.pyfunc.scoring_server import predictions_to_json

    theirs = io.StringIO()
    predictions_to_json(raw, theirs)
    assert Writer().body(raw).decode() == theirs.getvalue()


@pytest.mark.parametrize(
    ("predict", "agrees"),
    [
        (lambda frame: frame.to_numpy().sum(axis=1), True),
        (lambda frame: frame.to_numpy().sum(axis=1) * (1 + 1e-12 * len(frame)), True),
        (lambda frame: (frame - frame.mean()).to_numpy().sum(axis=1), False),
        (lambda frame: frame.to_numpy().sum(axis=1)[:1], False),
        (lambda frame: [len(frame)] * len(frame), False),
        (lambda frame: 1 / (len(frame) == 1) * frame.to_numpy(), False),
        (lambda frame: sum(frame.iloc[:, 0]), False),
    ],
)
def test_rows_are_predicted_together_only_where_that_changes_nothing(predict: Any, agrees: bool) -> None:
    _, reader = prepared(("double", "double"))
    assert batches_agree(reader, predict, b'{"dataframe_records": [{"double 0": 1.5, "double 1": 2.0}]}') is agrees


def test_no_example_that_is_read_shows_nothing() -> None:
    _, reader = prepared(("double",))
    assert not batches_agree(reader, lambda frame: frame, b"{}")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.001, False),
        (float("nan"), float("nan"), True),
        (1, 1.0, False),
        ([1.0, {"a": "x"}], [1.0, {"a": "x"}], True),
        ([1.0, {"a": "x"}], [1.0, {"a": "y"}], False),
        ({"a": 1}, {"b": 1}, False),
        ([1], [1, 1], False),
    ],
)
def test_floats_agree_within_a_tolerance_and_all_else_exactly(left: object, right: object, same: bool) -> None:
    assert agree(left, right) is same
