"""The router's own answers to a client: RFC 9457 problems with an RFC 9209 Proxy-Status.

Rules:
1. Every answer that no model server made is one of these, and carries `Proxy-Status: canary-router; error=…`.
2. A problem never lists models, names an upstream's address, or repeats what the client sent.
3. An overload and a version that is not ready say when to come again.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import msgspec


class Problem(NamedTuple):
    """One kind of problem: `error` is a Proxy-Status error type, `retry_after` in whole seconds (0: not sent).

    `allow` lists the methods that would do, where the method is what is wrong; `received` is the status of a response
    that was kept back.
    """

    name: str
    status: int
    title: str
    error: str
    retry_after: int = 0
    allow: bytes = b""
    received: int = 0


class Problems:
    """All kinds of problem that the data plane answers with."""

    MALFORMED = Problem("malformed-request", 400, "Malformed HTTP request", "http_request_error")
    BAD_PATH = Problem("bad-path", 400, "The path could leave the model's prefix", "http_request_denied")
    BAD_TIMEOUT = Problem("bad-timeout", 400, "x-request-timeout is no duration", "http_request_error")
    UNKNOWN_PATH = Problem("unknown-path", 404, "No such path", "destination_not_found")
    UNKNOWN_MODEL = Problem("unknown-model", 404, "Unknown model", "destination_not_found")
    UNKNOWN_VERSION = Problem("unknown-version", 404, "Unknown version", "destination_not_found")
    WRONG_METHOD = Problem("method-not-allowed", 405, "Method not allowed", "http_request_denied", allow=b"GET, HEAD")
    REQUEST_TIMEOUT = Problem("request-timeout", 408, "The request did not arrive in time", "http_request_error")
    ROLLED_BACK = Problem("version-rolled-back", 409, "The version is rolled back", "destination_unavailable")
    TOO_LARGE = Problem("body-too-large", 413, "The body is too large", "http_request_denied")
    URI_TOO_LONG = Problem("uri-too-long", 414, "The URL is too long", "http_request_denied")
    EXPECTATION = Problem("expectation-failed", 417, "Only `Expect: 100-continue` is known", "http_request_denied")
    HEAD_TOO_LARGE = Problem("header-too-large", 431, "The header is too large", "http_request_denied")
    NO_UPGRADE = Problem("no-upgrade", 501, "Upgrades are not supported here", "http_upgrade_failed")
    LOOP = Problem("loop", 508, "The request came through this router before", "proxy_loop_detected")
    INTERNAL = Problem("internal", 500, "The router failed", "proxy_internal_error")
    REFUSED = Problem("upstream-unreachable", 502, "The model server cannot be reached", "connection_refused")
    TLS = Problem("upstream-tls", 502, "The model server's certificate does not hold", "tls_certificate_error")
    BROKE = Problem("upstream-broke", 502, "The model server broke the connection", "connection_terminated")
    GARBLED = Problem("upstream-garbled", 502, "The model server's response is no HTTP", "http_protocol_error")
    EXCEPTION = Problem("model-exception", 502, "The model raised an exception", "http_protocol_error", received=400)
    NOT_READY = Problem("not-ready", 503, "No version of the model is ready", "destination_unavailable", 1)
    OVERLOADED = Problem("overloaded", 503, "Too many requests under way", "connection_limit_reached", 1)
    DEADLINE = Problem("deadline", 504, "The deadline has passed", "http_response_timeout")


class _Body(msgspec.Struct):
    type: str
    title: str
    status: int
    detail: str
    model: str | msgspec.UnsetType
    request_id: str


_encode = msgspec.json.Encoder().encode

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUS_LINES = {code: b"HTTP/1.1 %d %b\r\n" % (code, phrase) for code, phrase in REASONS.items()}


def status_line(code: int) -> bytes:
    """The status line of `code`, line end included."""
    return STATUS_LINES.get(code) or b"HTTP/1.1 %d \r\n" % code


def render(
    problem: Problem, detail: str, *, model: str, request_id: bytes, extra: bytes = b"", head_only: bool = False
) -> bytes:
    """A whole response.

    Args:
        problem: which kind.
        detail: what happened to this request, for the one who sent it.
        model: the model's name, where it is known to exist; "" leaves it out.
        request_id: the request's id.
        extra: header lines to add, each with its line end.
        head_only: for HEAD: the body is left out, its length is still said.
    """
    body = _encode(
        _Body(
            f"urn:canary-router:problem:{problem.name}",
            problem.title,
            problem.status,
            detail or problem.title,
            model or msgspec.UNSET,
            request_id.decode("ascii", "replace"),
        )
    )
    lines = (
        status_line(problem.status),
        b"content-type: application/problem+json\r\nproxy-status: canary-router; error=",
        problem.error.encode(),
        b"; received-status=%d" % problem.received if problem.received else b"",
        b"\r\nx-request-id: ",
        request_id,
        b"\r\n",
        b"retry-after: %d\r\n" % problem.retry_after if problem.retry_after else b"",
        b"allow: %b\r\n" % problem.allow if problem.allow else b"",
        extra,
        b"content-length: %d\r\n\r\n" % len(body),
        b"" if head_only else body,
    )
    return b"".join(lines)
