"""A model's directory to a model that has proved it can predict.

Rules:
1. Loaded with MLflow's own loader, which runs the model's code.
2. Warmed up with the model's own input example, where it has one; a model that fails on its own example is not served.
3. Whatever the model's code raises becomes an OperatorError with the reason in one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from router.errors import OperatorError
from router.registry.redact import first_line
from router.serving.scoring import Scorer

_OK = 200
_MEND = "log the model again, or install in the router's environment what its requirements.txt names"


def load(directory: Path) -> Any:
    """The pyfunc model in `directory`.

    Raises:
        OperatorError: it is no model, or its code or its files do not load here.
    """
    if not (directory / "MLmodel").is_file():
        raise OperatorError(f"{directory} holds no MLmodel file", hint="fetch the model again")
    import mlflow.pyfunc

    try:
        return mlflow.pyfunc.load_model(str(directory))
    except ImportError as fault:
        raise OperatorError(f"the model needs a library that is missing here: {_said(fault)}", hint=_MEND) from fault
    except Exception as fault:
        raise OperatorError(f"the model cannot be loaded: {_said(fault)}", hint=_MEND) from fault


class Example(NamedTuple):
    """A model's own input example: the JSON of a request for it, or where it cannot be sent, the input itself."""

    request: bytes | None
    value: Any


def example_of(model: Any, directory: Path) -> Example:
    """The input example of `model`. Raises OperatorError: it cannot be read."""
    try:
        request = model.metadata.get_serving_input(str(directory))
        value = model.metadata.load_input_example(str(directory)) if request is None else None
    except Exception as fault:
        raise OperatorError(f"the model's input example cannot be read: {_said(fault)}", hint=_MEND) from fault
    return Example(None if request is None else request.encode(), value)


def warm_up(scorer: Scorer, example: Example) -> None:
    """Predicts `example` the way a client would ask for it. Raises OperatorError: the model fails on it."""
    if example.request is not None:
        _expect_answer(scorer, example.request)
    elif example.value is not None:
        _expect_prediction(scorer.model, example.value)


def _expect_answer(scorer: Scorer, request: bytes) -> None:
    answer = scorer.answer(request, "application/json")
    if answer.status != _OK:
        # The example is the model's own: unlike a client's request, it may be repeated.
        reason = _said(scorer.fault) if scorer.fault else answer.body.decode()
        raise OperatorError(f"the model fails on its own input example: {answer.status}: {reason}", hint=_MEND)


def _expect_prediction(model: Any, example: Any) -> None:
    try:
        model.predict(example)
    except Exception as fault:
        raise OperatorError(f"the model fails on its own input example: {_said(fault)}", hint=_MEND) from fault


def _said(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {first_line(str(fault))}"
