"""What has to be shown of a model before its requests are read without MLflow, or predicted together.

Rules:
1. A form is read without MLflow only where, for sample bodies, the model's code would be given exactly what MLflow
   gives it: asked of the MLflow that is installed, at every start, without running the model.
2. Where the model has an input example, its answer has to be the same bytes as by way of MLflow.
3. A frame is given as the array inside it only where everything in the model is scikit-learn's own, and the predictions
   of the example's rows, and of variations of them, are the same to the last bit.
4. Requests are predicted together only where single and joint predictions of the example's rows, and of variations of
   them, agree: floats to `RELATIVE` or `ABSOLUTE`, all else exactly. Without such an example they are not.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from router.serving.arrays import arrays_of
from router.serving.columns import Columns, columns_of
from router.serving.pieces import Piece, Reader
from router.serving.scoring import Scorer
from router.serving.writing import Writer

_log = logging.getLogger(__name__)
RELATIVE = 1e-6
ABSOLUTE = 1e-9


def reader_for(scorer: Scorer) -> Reader | None:
    """A reader that reads as MLflow does, or None where there is none for this model."""
    metadata = scorer.model.metadata
    if metadata._is_signature_from_type_hint() or metadata._is_type_hint_from_example():
        return None
    reader: Reader | None = columns_of(scorer.schema) or arrays_of(scorer.schema)
    if reader is None:
        return None
    same = {form for form, bodies in reader.samples().items() if all(_same(reader, scorer, body) for body in bodies)}
    reader.keep(same)
    return reader if same else None


def _same(reader: Reader, scorer: Scorer, body: bytes) -> bool:
    piece = reader.read(body)
    if piece is None:
        return False
    try:
        return identical(reader.join([piece]), scorer.seen_for(body))
    except Exception as fault:  # noqa: BLE001 - MLflow refuses the form, or its insides have changed
        _log.debug("MLflow does not read this form: %s", type(fault).__name__)
        return False


def identical(ours: Any, theirs: Any) -> bool:
    """Whether two inputs of a model are the same to it: types, index, layout, every bit of every value."""
    import numpy as np
    import pandas as pd

    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, np.ndarray):
        same = (ours.dtype, ours.shape, ours.flags.c_contiguous) == (
            theirs.dtype,
            theirs.shape,
            theirs.flags.c_contiguous,
        )
        return same and ours.tobytes() == theirs.tobytes()
    if not isinstance(ours, pd.DataFrame):
        return False
    try:
        pd.testing.assert_frame_equal(
            ours, theirs, check_exact=True, check_index_type="exact", check_column_type="exact"
        )
    except AssertionError:
        return False
    left, right = ours.to_numpy(), theirs.to_numpy()
    # The sign of a zero is not in the comparison above.
    return left.flags.f_contiguous == right.flags.f_contiguous and repr(left.tolist()) == repr(right.tolist())


def answers_alike(reader: Reader, scorer: Scorer, request: bytes) -> bool:
    """Whether the input example's answer is the same with and without MLflow's reading (rule 2)."""
    piece = reader.read(request)
    if piece is None:
        # Such requests go by way of MLflow anyway.
        return True
    try:
        ours = Writer().body(scorer.predict_ready(reader.join([piece])))
    except Exception as fault:  # noqa: BLE001 - whatever the model raises
        _log.warning("input is read by MLflow alone: on its example the model raised %s", type(fault).__name__)
        return False
    return ours == scorer.answer(request, "application/json").body


def names_do_not_matter(reader: Reader, scorer: Scorer, request: bytes) -> bool:
    """Whether the model predicts the same where its rows come without their columns' names (rule 3)."""
    piece = reader.read(request)
    if not isinstance(reader, Columns) or not reader.may_be_bare or piece is None or not only_sklearn(scorer.model):
        return False
    # It is known, and about to be shown not to matter.
    warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
    writer = Writer()
    pieces = [piece, *_accepted(reader, scorer.predict_ready, piece)]
    try:
        named = [scorer.predict_ready(reader.join([one])) for one in pieces]
        reader.bare = True
        bare = [scorer.predict_ready(reader.join([one])) for one in pieces]
        return all(
            type(left) is type(right) and writer.body(left) == writer.body(right)
            for left, right in zip(named, bare, strict=True)
        )
    except Exception as fault:  # noqa: BLE001 - whatever the model raises
        _log.debug("without names the model raised %s", type(fault).__name__)
        return False
    finally:
        reader.bare = False


def only_sklearn(model: Any) -> bool:
    """Whether the model is an estimator of scikit-learn's, made of nothing else: such take an array as they do a frame
    that holds it, but for those that choose columns by name, which raise."""
    inside = getattr(model._model_impl, "sklearn_model", None)
    return inside is not None and all(
        type(part).__module__.startswith("sklearn.") and "function" not in type(part).__module__
        for part in _parts(inside)
    )


def _parts(estimator: Any) -> Iterator[Any]:
    yield estimator
    if hasattr(estimator, "get_params"):
        yield from (value for value in estimator.get_params().values() if hasattr(value, "fit") or callable(value))


def batches_agree(reader: Reader, predict: Callable[[Any], Any], request: bytes) -> bool:
    """Whether predictions of the example's rows do not depend on what is predicted with them (rule 4)."""
    piece = reader.read(request) if reader.joins else None
    if piece is None:
        return False
    writer = Writer()
    try:
        alone = [(one, writer.plain(predict(reader.join([one])))) for one in _accepted(reader, predict, piece)]
        together = [one for one, _ in alone] * 2
        raw = predict(reader.join(together))
        if writer.rows(raw) != len(together):
            return False
        joint = [writer.plain(writer.part(raw, at, at + 1)) for at in range(len(together))]
    except Exception as fault:  # noqa: BLE001 - whatever the model raises
        _log.info("requests are predicted one by one: together they made the model raise %s", type(fault).__name__)
        return False
    return bool(alone) and all(
        agree(left, right) for left, right in zip([one for _, one in alone] * 2, joint, strict=True)
    )


def _accepted(reader: Reader, predict: Callable[[Any], Any], piece: Piece) -> list[Piece]:
    """The example's rows and those variations of them that the model does not refuse."""
    taken = []
    for one in reader.apart(piece):
        try:
            predict(reader.join([one]))
        except Exception as fault:  # noqa: BLE001 - a variation may be nonsense to the model
            _log.debug("a variation of the example is refused: %s", type(fault).__name__)
            continue
        taken.append(one)
    return taken


def agree(left: Any, right: Any) -> bool:
    """Whether two predictions are the same within the tolerance of floats."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(agree(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(agree(value, right[key]) for key, value in left.items())
    if hasattr(left, "tolist") and hasattr(right, "tolist"):
        return agree(left.tolist(), right.tolist())
    return type(left) is type(right) and bool(left == right)
