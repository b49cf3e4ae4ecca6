"""The model's HTTP face, as an ASGI application.

Rules:
1. `POST /invocations`, `GET /ping`, `/health`, `/version`, as MLflow's scoring server has them; another path is 404,
   another method 405.
2. Predictions run beside the loop, in the order they came, so that probes are answered while a model thinks.
3. Who went away is not worked for: a request still waiting when its client leaves is dropped.
4. A prediction that takes longer than a minute is answered 504, as MLflow does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from starlette.types import Receive, Scope, Send

from router.serving.answers import Answer

Predict = Callable[[bytes, str | None], Answer]

PREDICTION_TIMEOUT = 60.0
_JSON = "application/json"
_HEALTHY = Answer(200, b"\n", _JSON)
_NOT_FOUND = Answer(404, b'{"detail":"Not Found"}', _JSON)
_NOT_ALLOWED = Answer(405, b'{"detail":"Method Not Allowed"}', _JSON)
_TOO_SLOW = Answer(504, b"Request processing time exceeded limit", _JSON)


class App:
    """One version's ASGI application; `predict` runs on `executor`, `release` is MLflow's version."""

    def __init__(
        self, predict: Predict, executor: Executor, release: str, *, timeout: float = PREDICTION_TIMEOUT
    ) -> None:
        self._predict = predict
        self._executor = executor
        self._timeout = timeout
        self._fixed = {
            "/ping": _HEALTHY,
            "/health": _HEALTHY,
            "/version": Answer(200, release.encode(), _JSON),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        path, method = scope["path"], scope["method"]
        if path == "/invocations" and method == "POST":
            answer = await self._invocation(scope, receive)
        elif path in self._fixed and method == "GET":
            answer = self._fixed[path]
        elif path in self._fixed or path == "/invocations":
            answer = _NOT_ALLOWED
        else:
            answer = _NOT_FOUND
        if answer is not None:
            await _respond(send, answer)

    async def _invocation(self, scope: Scope, receive: Receive) -> Answer | None:
        body = await _whole_body(receive)
        if body is None:
            return None
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._executor, self._predict, body, _content_type(scope))
        gone = asyncio.ensure_future(receive())
        either: set[asyncio.Future[Any]] = {work, gone}
        try:
            await asyncio.wait(either, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return None if gone.done() else _TOO_SLOW
        finally:
            # Cancelling takes work out of the queue; what already runs in its thread runs to its end.
            work.cancel()
            gone.cancel()


async def _whole_body(receive: Receive) -> bytes | None:
    """The request's body, or None where the client left in the middle of it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _content_type(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"content-type":
            text: str = value.decode("latin-1")
            return text
    return None


async def _respond(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", answer.media_type.encode()), (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
