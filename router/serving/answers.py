"""What goes back on the wire, and the answers that are the same for every model.

Rules:
1. An error is MLflow's JSON, `{"error_code", "message"}`: what its clients already read.
2. No stack trace, no row, nothing that a model said: the message is ours.
"""

from __future__ import annotations

import json
from typing import NamedTuple

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
Headers = tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """Status, body, content type, and further headers."""

    status: int
    body: bytes
    media_type: str
    headers: Headers = ()


def refusal(status: int, code: str, message: str) -> Answer:
    """An error in MLflow's form."""
    return Answer(status, json.dumps({"error_code": code, "message": message}).encode(), JSON)


RAISED = refusal(500, "INTERNAL_ERROR", "The model raised an exception; the router's log names its type and place.")
UNREADABLE = refusal(500, "INTERNAL_ERROR", "What the model returned cannot be written as JSON.")
TOO_SLOW = Answer(504, b"Request processing time exceeded limit", JSON)
TOO_DEEP = refusal(400, "BAD_REQUEST", "Invalid input. It is nested too deeply.")
NO_CONTENT_TYPE = Answer(415, b"The request has no content type; send application/json", TEXT)
NOT_FOUND = Answer(404, b'{"detail":"Not Found"}', JSON)
NOT_ALLOWED = Answer(405, b'{"detail":"Method Not Allowed"}', JSON)
HEALTHY = Answer(200, b"\n", JSON)
