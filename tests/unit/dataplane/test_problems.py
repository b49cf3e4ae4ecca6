"""The router's own answers, as bytes."""

from __future__ import annotations

import json

import pytest

from router.dataplane.problems import Problem, Problems, render, status_line

ALL = [value for value in vars(Problems).values() if isinstance(value, Problem)]
PROXY_STATUS_TYPES = {
    "dns_timeout", "dns_error", "destination_not_found", "destination_unavailable", "destination_ip_prohibited",
    "destination_ip_unroutable", "connection_refused", "connection_terminated", "connection_timeout",
    "connection_read_timeout", "connection_write_timeout", "connection_limit_reached", "tls_protocol_error",
    "tls_certificate_error", "tls_alert_received", "http_request_error", "http_request_denied",
    "http_response_incomplete", "http_response_header_section_size", "http_response_header_size",
    "http_response_body_size", "http_response_trailer_section_size", "http_response_trailer_size",
    "http_response_transfer_coding", "http_response_content_coding", "http_response_timeout", "http_upgrade_failed",
    "http_protocol_error", "proxy_internal_response", "proxy_internal_error", "proxy_configuration_error",
    "proxy_loop_detected",
}  # fmt: skip
"""RFC 9209, section 2.3."""


@pytest.mark.parametrize("problem", ALL, ids=lambda problem: problem.name)
def test_every_problem_is_whole(problem: Problem) -> None:
    data = render(problem, "why", model="fraud", request_id=b"id", extra=b"x-a: b\r\n")
    head, _, body = data.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % problem.status)
    assert b"\r\ncontent-length: %d" % len(body) in head
    assert b"\r\nproxy-status: canary-router; error=" + problem.error.encode() in head
    assert b"\r\nx-a: b\r\n" in head
    assert (b"\r\nretry-after: 1\r\n" in head) == (problem.status == 503)
    assert json.loads(body) == {
        "type": f"urn:canary-router:problem:{problem.name}",
        "title": problem.title,
        "status": problem.status,
        "detail": "why",
        "model": "fraud",
        "request_id": "id",
    }
    assert problem.error in PROXY_STATUS_TYPES


def test_names_are_told_apart() -> None:
    assert len({problem.name for problem in ALL}) == len(ALL)


def test_without_a_detail_the_title_says_it() -> None:
    body = render(Problems.LOOP, "", model="", request_id=b"id").partition(b"\r\n\r\n")[2]

    assert json.loads(body)["detail"] == Problems.LOOP.title


def test_what_is_not_known_to_be_a_model_is_left_out() -> None:
    body = render(Problems.BAD_PATH, "", model="", request_id=b"id").partition(b"\r\n\r\n")[2]

    assert "model" not in json.loads(body)


def test_head_has_the_length_but_no_body() -> None:
    whole = render(Problems.LOOP, "", model="", request_id=b"id")

    assert render(Problems.LOOP, "", model="", request_id=b"id", head_only=True) == whole[: whole.index(b"{")]


@pytest.mark.parametrize(("code", "line"), [(200, b"HTTP/1.1 200 OK\r\n"), (599, b"HTTP/1.1 599 \r\n")])
def test_status_lines(code: int, line: bytes) -> None:
    assert status_line(code) == line
