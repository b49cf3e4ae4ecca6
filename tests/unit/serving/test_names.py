"""Tests of `proof.names_do_not_matter`: which models are given an array where MLflow gives a frame."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from router.serving.columns import Columns, columns_of
from router.serving.proof import names_do_not_matter
from router.serving.scoring import Scorer

pytestmark = pytest.mark.usefixtures("mlflow_imported")
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 2.9, 5.6, 1.8]]
REQUEST = json.dumps({"dataframe_split": {"columns": list("abcd"), "data": ROWS}}).encode()


def served(estimator: Any, root: Any, kind: str = "double") -> tuple[Columns, Scorer]:
    """A fitted `estimator` as it is served."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from sklearn.datasets import load_iris

    features, labels = load_iris(as_frame=True, return_X_y=True)
    features.columns = list("abcd")
    schema = Schema([ColSpec(kind, name) for name in "abcd"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            estimator.fit(features, labels),
            root / "m",
            signature=ModelSignature(inputs=schema),
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
        scorer = Scorer(mlflow.pyfunc.load_model(str(root / "m")))
    reader = columns_of(scorer.schema)
    assert reader is not None
    return reader, scorer


def test_an_estimator_of_scikit_learns_takes_an_array(tmp_path: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reader, scorer = served(make_pipeline(StandardScaler(), LogisticRegression()), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names_do_not_matter(reader, scorer, REQUEST)
    assert not reader.bare
    frame = reader.join([piece := reader.read(REQUEST)])  # type: ignore[list-item] # it is read
    reader.bare = True
    array = reader.join([piece])  # type: ignore[list-item] # the same
    assert (array.flags.f_contiguous, array.tobytes("F")) == (True, frame.to_numpy().tobytes("F"))


def test_one_that_chooses_columns_by_name_does_not(tmp_path: Any) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = make_column_transformer((StandardScaler(), ["a", "c"]))
    assert not names_do_not_matter(*served(make_pipeline(chosen, LogisticRegression()), tmp_path), REQUEST)


def test_code_of_somebody_elses_may_look_at_names(tmp_path: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    own = make_pipeline(FunctionTransformer(abs), LogisticRegression())
    assert not names_do_not_matter(*served(own, tmp_path), REQUEST)


def test_numbers_of_other_types_stay_in_a_frame(tmp_path: Any) -> None:
    from sklearn.tree import DecisionTreeClassifier

    rows = json.dumps({"dataframe_split": {"columns": list("abcd"), "data": [[1, 2, 3, 4]]}}).encode()
    assert not names_do_not_matter(*served(DecisionTreeClassifier(), tmp_path, "long"), rows)
