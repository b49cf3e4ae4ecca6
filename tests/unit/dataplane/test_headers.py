"""What headers mean, and what their values say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane import headers
from router.dataplane.headers import (
    CONNECTION,
    COOKIE,
    DROPPED,
    FORWARDED_HOST,
    HOST,
    LENGTH,
    MAX_LEARNED,
    MAX_NAME,
    OVERRIDE,
    PLAIN,
    REQUEST_ID,
    STICKY,
    RequestNames,
    response_names,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"Host", HOST),
        (b"HOST", HOST),
        (b"cOOkie", COOKIE),
        (b"Te", DROPPED),
        (b"X-Forwarded-Host", FORWARDED_HOST),
        (b"accept", PLAIN),
    ],
)
def test_a_spelling_is_learned_once(name: bytes, kind: int) -> None:
    names = RequestNames()

    assert names.learn(name) == kind
    assert names.known[name] == kind


def test_what_is_learned_is_bounded() -> None:
    names = RequestNames()

    for number in range(MAX_LEARNED * 2):
        assert names.learn(b"x-%d" % number) == PLAIN
    names.learn(b"y" * (MAX_NAME + 1))

    assert len(names.known) == MAX_LEARNED
    assert names.learn(b"HosT") == HOST
    assert b"HosT" not in names.known
    other = RequestNames()
    assert other.learn(b"y" * (MAX_NAME + 1)) == PLAIN
    assert b"y" * (MAX_NAME + 1) not in other.known


def test_sticky_headers_come_and_go_but_no_other_meaning_is_lost() -> None:
    names = RequestNames()
    known = names.known
    names.learn(b"X-Key")

    names.set_sticky([b"x-key", b"x-request-id"])
    assert names.learn(b"X-Key") == STICKY
    assert names.learn(b"X-Request-Id") == REQUEST_ID
    names.set_sticky([])

    assert names.learn(b"X-Key") == PLAIN
    assert names.known is known


def test_a_header_with_a_meaning_holds_its_key_under_that_meaning() -> None:
    assert headers.key_of(b"x-key") == b"x-key"
    assert headers.key_of(b"x-request-id") == REQUEST_ID


def test_response_names() -> None:
    names = response_names()

    assert names.learn(b"Content-Length") == LENGTH
    assert names.learn(b"CONNECTION") == CONNECTION
    assert names.learn(b"X-Model-Version") == OVERRIDE
    assert names.learn(b"Set-Cookie") == PLAIN


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"a.test", True),
        (b"a.test:8080", True),
        (b"[::1]:80", True),
        (b"", True),
        (b"a" * 255, True),
        (b"a" * 256, False),
        (b"a b", False),
        (b"a/b", False),
        (b"a@b", False),
        (b'a"b', False),
        (b"a\\b", False),
        (b"a\n", False),
    ],
)
def test_hosts(value: bytes, good: bool) -> None:
    assert headers.is_host(value) is good


@pytest.mark.parametrize(
    ("value", "good"), [(b"a", True), (b"", False), (b"a" * 128, True), (b"a" * 129, False), (b"a\n", False)]
)
def test_ids(value: bytes, good: bool) -> None:
    assert headers.is_sane_id(value) is good


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"close", {b"close"}),
        (b"Keep-Alive ,\tX-A", {b"keep-alive", b"x-a"}),
        (b", ,x-a,", {b"x-a"}),
        (b"", set()),
        (b"x a", None),
        (b"x-a;q=1", None),
        (b'"x"', None),
    ],
)
def test_connection_lists_names(value: bytes, names: set[bytes] | None) -> None:
    assert headers.connection_names(value) == names


def test_without_drops_every_line_of_a_name() -> None:
    lines = [b"X-A: 1\r\n", b"x-b: x-a\r\n", b"x-a:\r\n", b"x-ab: 1\r\n"]

    assert headers.without(lines, frozenset({b"x-a"})) == [b"x-b: x-a\r\n", b"x-ab: 1\r\n"]


@pytest.mark.parametrize(
    ("cookie", "value"),
    [
        (b"sid=1", b"1"),
        (b"a=b; sid=x=y; sid=2", b"x=y"),
        (b"a=b;sid=1", b"1"),
        (b"sid", b""),
        (b"sid=", b""),
        (b"xsid=1", b""),
        (b"SID=1", b""),
        (b'sid="q"', b'"q"'),
        (b"", b""),
    ],
)
def test_cookie_values(cookie: bytes, value: bytes) -> None:
    assert headers.cookie_value(cookie, b"sid") == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"500ms", 0.5),
        (b"2s", 2.0),
        (b"1.25s", 1.25),
        (b"10m", 600.0),
        (b"1h", 3600.0),
        (b"0s", 0.0),
        (b"1234567890s", None),
        (b"1.1234567s", None),
        (b"1", None),
        (b"s", None),
        (b".5s", None),
        (b"1s\n", None),
        (b"\xd9\xa1s", None),
    ],
)
def test_durations(text: bytes, seconds: float | None) -> None:
    assert headers.duration(text) == seconds


@given(st.binary(max_size=12))
def test_no_value_raises(value: bytes) -> None:
    headers.duration(value)
    headers.connection_names(value)
    headers.cookie_value(value, b"sid")
    headers.is_host(value)
