"""TensorFlow Serving's REST form: `POST /v1/models/{model}:predict`, also KServe's v1.

Rules:
1. `instances` is answered with `predictions`, `inputs` with `outputs`; `signature_name` may be `serving_default`.
2. The rows are read as MLflow reads them under the same key. An error is `{"error": …}` with the same status.
"""

from __future__ import annotations

import json
import re
from typing import Any

from router.serving import answers
from router.serving.answers import Answer
from router.serving.line import Job, Line
from router.serving.pieces import Reader
from router.serving.request import Request
from router.serving.scoring import Scorer
from router.serving.service import SMALL, Deliver
from router.serving.writing import Writer

_PREDICT = re.compile(r"/v1/models/[^/:]+(?:/versions/[^/:]+)?:predict")
_WRITTEN = b'{"predictions": '
_RENAMED = b'{"outputs": '
_OK = 200


class Predict:
    """A face of the service (`service.Face`)."""

    def __init__(self, scorer: Scorer, reader: Reader | None, line: Line) -> None:
        self._scorer = scorer
        self._reader = reader
        self._line = line
        self._writer = Writer()

    def handle(self, request: Request, deliver: Deliver) -> Job | None:
        """See `service.Face`."""
        if not _PREDICT.fullmatch(request.path):
            deliver(answers.NOT_FOUND)
            return None
        if request.method != b"POST":
            deliver(answers.NOT_ALLOWED)
            return None
        job = self._job(request.body, deliver)
        self._line.put(job)
        return job

    def _job(self, body: bytes, deliver: Deliver) -> Job:
        key = _key_of(body) if self._reader is not None and len(body) <= SMALL else ""
        piece = self._reader.read(body) if self._reader is not None and key else None
        if piece is None:
            return Job(deliver, whole=lambda: self._whole(body))
        return Job(
            lambda answer: deliver(spoken(answer)),
            piece,
            write=lambda raw: Answer(_OK, self._writer.body(raw, key), answers.JSON),
        )

    def _whole(self, body: bytes) -> Answer:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return error(400, "The body is not valid JSON.")
        fault = _fault_in(asked)
        if fault:
            return error(400, fault)
        known = {key: asked[key] for key in ("inputs", "instances", "params") if key in asked}
        answer = self._scorer.answer(json.dumps(known).encode(), answers.JSON)
        if answer.status == _OK and "inputs" in asked:
            return answer._replace(body=_RENAMED + answer.body.removeprefix(_WRITTEN))
        return spoken(answer)


def _key_of(body: bytes) -> str:
    """The key of the answer, where the request's own is plain to see; a reader takes a body of one key only."""
    start = body.lstrip(b"{ \t\r\n")
    if start.startswith(b'"inputs"'):
        return "outputs"
    return "predictions" if start.startswith(b'"instances"') else ""


def _fault_in(asked: Any) -> str:
    if not isinstance(asked, dict) or ("inputs" in asked) == ("instances" in asked):
        return "The body must be a JSON dictionary with either instances or inputs."
    if asked.get("signature_name", "") not in ("", "serving_default"):
        return "The model has no such signature; leave signature_name out."
    return ""


def error(status: int, message: str) -> Answer:
    """An error in TensorFlow Serving's and in the Open Inference Protocol's form."""
    return Answer(status, json.dumps({"error": message}).encode(), answers.JSON)


def spoken(answer: Answer) -> Answer:
    """`answer`, with MLflow's form of an error put into this one."""
    if answer.status == _OK:
        return answer
    return error(answer.status, _message(answer.body))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
