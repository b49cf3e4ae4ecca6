"""MLflow's scoring protocol for one loaded model: a body and its content type in, an answer out.

Rules:
1. The same predictions and statuses as `mlflow models serve`, whose own function does the work.
2. An exception inside the model is a 500 without a trace; MLflow answers 400 with one. The log names the exception's
   type and where it was raised, never its message: that may hold a row.
3. A client's mistake never counts as the version's failure: no content type is 415 (MLflow: 500), a body nested too
   deeply for the parser is 400 (MLflow: 500). Refusals repeat nothing of the request (`refusals`).
4. Nothing is raised: whatever goes wrong is an answer.
"""

from __future__ import annotations

import copy
import functools
import logging
import traceback
from typing import Any

from router.serving import answers
from router.serving.answers import Answer
from router.serving.refusals import masked

_log = logging.getLogger(__name__)
# They warn once for every request that does not fit the schema: a client could fill the log, and with its rows.
for _name in ("mlflow.pyfunc.scoring_server", "mlflow.models.utils", "mlflow.pyfunc", "mlflow.pyfunc.model"):
    logging.getLogger(_name).setLevel(logging.ERROR)


class Scorer:
    """One loaded model behind the scoring protocol. One request at a time."""

    def __init__(self, model: Any) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc.scoring_server import invocations

        self.model = model
        self.schema = model.metadata.get_input_schema()
        self._names = self.schema.input_names() if self.schema is not None and self.schema.has_input_names() else ()
        self._invocations = invocations
        self._refusal = MlflowException
        self._watched = Watched(model)
        self._ready = _without_schema(model)

    def answer(self, body: bytes, content_type: str | None) -> Answer:
        """Parses, predicts and serialises one request, all by MLflow's own function."""
        if content_type is None:
            return answers.NO_CONTENT_TYPE
        self._watched.start()
        try:
            done = self._invocations(body, content_type, self._watched, self.schema)
        except Exception as fault:  # noqa: BLE001 - a model may raise and return anything
            return self.failed(self._watched.fault or fault, returned=self._watched.returned)
        media_type = answers.TEXT if done.mimetype == "text/plain" else done.mimetype
        return Answer(done.status, done.response.encode(), media_type)

    @property
    def fault(self) -> Exception | None:
        """What the model raised at the last request, where it did."""
        return self._watched.fault

    def predict(self, data: Any, params: dict[str, Any] | None) -> Any:
        """The model's prediction for parsed input, its signature enforced. Raises what goes wrong: see `failed`."""
        self._watched.start()
        return self._watched.predict(data, params)

    def predict_ready(self, data: Any) -> Any:
        """The model's prediction for what its signature would let through unchanged."""
        self._watched.start()
        return self._ready.predict(data)

    def seen_for(self, body: bytes) -> Any:
        """What the model's code is given where MLflow reads `body`. The code is not run. Raises what MLflow raises."""
        seen: list[Any] = []
        blind = copy.copy(self.model)
        blind._predict_fn = seen.append
        self._invocations(body, "application/json", blind, self.schema)
        return seen[0]

    def failed(self, fault: BaseException, *, returned: bool = False) -> Answer:
        """The answer where parsing or predicting raised `fault`; `returned`: behind the model, while writing."""
        if returned:
            _log.error("the model's answer cannot be written: %s", type(fault).__name__)
            return answers.UNREADABLE
        if isinstance(fault, self._refusal):
            return masked(fault, self._names)
        if self._watched.inside:
            _log.error("the model raised %s", place_of(fault))
            return answers.RAISED
        if isinstance(fault, RecursionError):
            return answers.TOO_DEEP
        return answers.refusal(400, "BAD_REQUEST", "The input does not fit the model's signature.")


def _without_schema(model: Any) -> Any:
    """The same model, whose `predict` enforces no signature on its rows; all else, params too, stays MLflow's."""
    bare = copy.copy(model)
    bare._model_meta = _NoSchema(model.metadata)
    return bare


class _NoSchema:
    """The metadata of a model, less the signature of its rows."""

    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata

    def get_input_schema(self) -> None:
        """See MLflow's `Model`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metadata, name)


class Watched:
    """The model, remembering how far a request got: into its code, and out of it again."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.metadata = model.metadata
        self.inside = self.returned = False
        self.fault: Exception | None = None
        self._watch()

    def _watch(self) -> None:
        """MLflow enforces the signature between its `predict` and the model's code: that is still the client's.

        Nothing public lies between the two, so this looks inside.
        """
        code = self._model._predict_fn

        @functools.wraps(code)
        def watched(*arguments: Any, **named: Any) -> Any:
            self.inside = True
            return code(*arguments, **named)

        self._model._predict_fn = watched

    def start(self) -> None:
        """Another request begins."""
        self.inside = self.returned = False
        self.fault = None

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """See `PyFuncModel.predict`."""
        try:
            done = self._model.predict(data, params=params)
        except Exception as fault:
            self.fault = fault
            raise
        self.returned = True
        return done


def place_of(fault: BaseException) -> str:
    """The type of `fault` and where it was raised, without its message."""
    frames = traceback.extract_tb(fault.__traceback__)
    return (
        f"{type(fault).__name__} in {frames[-1].name} ({frames[-1].filename}:{frames[-1].lineno})"
        if frames
        else (type(fault).__name__)
    )
