"""MLflow's scoring protocol for one loaded model: a body and its content type in, an answer out.

Rules:
1. The same predictions and statuses as `mlflow models serve`, whose own function does the work.
2. Four differences, so that a client's mistake never counts as the version's failure: no content type is 415 (there
   500), a body nested too deeply for the parser is 400 (there 500), and a body that cannot be parsed carries no
   `stack_trace`: that marks an exception inside the model, and nothing else. Bodies of 0 bytes are 400 like any.
3. Nothing is raised: whatever goes wrong is an answer.
"""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)
# It warns once for every request that does not fit the schema: a client could fill the log.
logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)
_JSON = "application/json"
_TEXT = "text/plain"


class Answer(NamedTuple):
    """What goes back on the wire."""

    status: int
    body: bytes
    media_type: str


class Scorer:
    """One loaded model behind the scoring protocol. Thread-safe as far as the model is."""

    def __init__(self, model: Any) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc.scoring_server import invocations

        self._model = model
        self._schema = model.metadata.get_input_schema()
        self._invocations = invocations
        self._refusal = MlflowException

    def answer(self, body: bytes, content_type: str | None) -> Answer:
        """Parses, predicts and serialises one request."""
        if content_type is None:
            return Answer(415, b"The request has no content type; send application/json", _TEXT)
        watched = _Watched(self._model)
        try:
            done = self._invocations(body, content_type, watched, self._schema)
        except self._refusal as refusal:
            return _refused(refusal, inside_model=watched.entered)
        except RecursionError:
            return _broken(inside_model=watched.entered)
        except Exception as fault:  # noqa: BLE001 - a model may return anything, and its serialiser raise anything
            _log.error("the model's answer cannot be serialised: %s", type(fault).__name__)
            return _broken(inside_model=True)
        return Answer(done.status, done.response.encode(), done.mimetype)


class _Watched:
    """The model, remembering whether a request got as far as its `predict`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.metadata = model.metadata
        self.entered = False

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        self.entered = True
        return self._model.predict(data, params=params)


def _refused(refusal: Any, *, inside_model: bool) -> Answer:
    said = json.loads(refusal.serialize_as_json())
    if not inside_model:
        said.pop("stack_trace", None)
    return Answer(refusal.get_http_status_code(), json.dumps(said).encode(), _JSON)


def _broken(*, inside_model: bool) -> Answer:
    if inside_model:
        return Answer(500, b"Internal Server Error", _TEXT)
    said = {"error_code": "BAD_REQUEST", "message": "The input is nested too deeply."}
    return Answer(400, json.dumps(said).encode(), _JSON)
