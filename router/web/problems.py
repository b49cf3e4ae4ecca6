"""Errors of the admin port, as problem+json (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router.web.schemas import ProblemDetails

MEDIA_TYPE = "application/problem+json"


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response with `status` that says `detail`."""
    body = ProblemDetails(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, headers, media_type=MEDIA_TYPE)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answers an `HTTPException`, the framework's own included."""
    if not isinstance(error, HTTPException):
        return problem(500, "control failed; its log says how")
    headers = dict(error.headers) if error.headers else None
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "nothing is served under this path"
    return problem(error.status_code, detail, headers)


async def on_invalid(request: Request, error: Exception) -> Response:
    """Answers a request whose parameters do not fit the API."""
    return problem(422, "the request does not fit the API: see openapi.json")


async def on_bug(request: Request, error: Exception) -> Response:
    """Answers when a handler failed; says nothing of how."""
    return problem(500, "control failed; its log says how")
