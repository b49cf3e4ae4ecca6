"""What the server does with a request: the path leads to a protocol, the protocol to a place in the model's line.

Rules:
1. `POST /invocations`, `GET /ping`, `/health`, `/version`, as MLflow's scoring server has them; `/v2` and `/v1` as in
   `openinference` and `tfserving`. Another path is 404, another method 405.
2. A small JSON body is read at once; a large one, and whatever MLflow has to read, beside the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from router.serving import answers
from router.serving.answers import Answer
from router.serving.line import Job, Line
from router.serving.pieces import Reader
from router.serving.request import Request
from router.serving.scoring import Scorer

SMALL = 65536
_PLAIN_JSON = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
Deliver = Callable[[Answer], None]


class Face(Protocol):
    """One prediction protocol."""

    def handle(self, request: Request, deliver: Deliver) -> Job | None:
        """See `Service.handle`."""
        ...


class Service:
    """One version, behind all its paths. `release` is MLflow's; `faces` are further protocols by the path's start."""

    def __init__(
        self, scorer: Scorer, reader: Reader | None, line: Line, release: str, faces: Mapping[str, Face]
    ) -> None:
        self._scorer = scorer
        self._reader = reader
        self._line = line
        self._faces = faces
        self._fixed = {
            "/ping": answers.HEALTHY,
            "/health": answers.HEALTHY,
            "/version": Answer(200, release.encode(), answers.JSON),
        }

    def handle(self, request: Request, deliver: Deliver) -> Job | None:
        """Delivers the answer, now or later; returns what stands in line, so that it can be marked as gone."""
        if request.path == "/invocations" and request.method == b"POST":
            return self._invocation(request, deliver)
        face = self._faces.get(request.path[:4])
        if face is not None:
            return face.handle(request, deliver)
        if request.path in self._fixed and request.method == b"GET":
            deliver(self._fixed[request.path])
        else:
            known = request.path in self._fixed or request.path == "/invocations"
            deliver(answers.NOT_ALLOWED if known else answers.NOT_FOUND)
        return None

    def _invocation(self, request: Request, deliver: Deliver) -> Job:
        job = self._job(request.headers.get(b"content-type"), request.body, deliver)
        self._line.put(job)
        return job

    def _job(self, kind: bytes | None, body: bytes, deliver: Deliver) -> Job:
        reader = self._reader
        content_type = None if kind is None else kind.decode("latin-1")
        if reader is None or kind is None or kind.lower() not in _PLAIN_JSON:
            return Job(deliver, whole=lambda: self._scorer.answer(body, content_type))
        if len(body) > SMALL:
            return Job(deliver, whole=lambda: self._large(reader, body))
        piece = reader.read(body)
        if piece is None:
            return Job(deliver, whole=lambda: self._scorer.answer(body, content_type))
        return Job(deliver, piece)

    def _large(self, reader: Reader, body: bytes) -> Answer:
        piece = reader.read(body)
        if piece is None:
            return self._scorer.answer(body, answers.JSON)
        return self._line.alone(Job(lambda _: None, piece))
