"""Names, headers, addresses and URLs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import names
from tests.unit.config.refusal import refusal


@pytest.mark.parametrize("text", ["a", "fraud-classifier", "v1.2_3", "0", "A" * 128])
def test_a_name_is_taken_as_it_is(text: str) -> None:
    assert names.check_name(text) == text


@pytest.mark.parametrize("text", ["", ".", "..", "-x", ".hidden", "a/b", "a b", "a\n", "é", "a%2f", "A" * 129, "_x"])
def test_what_could_be_more_than_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        names.check_name(text)


def test_headers_are_written_small() -> None:
    assert names.check_credential_header("X-Api-Key") == "x-api-key"
    assert names.check_sticky_header("X-Customer-Id") == "x-customer-id"
    assert names.check_sticky_header("x-request-id") == "x-request-id"


@pytest.mark.parametrize("text", ["Connection", "transfer-encoding", "Host", "content-length", "TE", "content-type"])
def test_headers_of_connection_and_body_are_refused(text: str) -> None:
    for check in (names.check_credential_header, names.check_sticky_header):
        with pytest.raises(ValueError, match="belongs to the connection or the body"):
            check(text)


def test_headers_of_the_router_are_no_credentials() -> None:
    with pytest.raises(ValueError, match="the router sets itself"):
        names.check_credential_header("X-Request-Id")


def test_all_cookies_together_are_no_key() -> None:
    with pytest.raises(ValueError, match=re.escape("{cookie: NAME}")):
        names.check_sticky_header("Cookie")


@pytest.mark.parametrize("text", ["", "a b", "a:", "a\n", "é", "a\r\nb", "a=b", "x" * 129])
def test_what_no_header_is_named_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        names.check_token(text)


def test_a_variable_is_named_without_repeating_what_may_be_a_secret() -> None:
    assert names.check_variable("FRAUD_TOKEN") == "FRAUD_TOKEN"
    with pytest.raises(ValueError, match="name of an environment variable") as caught:
        names.check_variable("Bearer hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://fraud-v4.us.internal:8080",
        "https://host/base/path/",
        "http://10.0.3.4",
        "http://[::1]:8080/x",
        "http://model_server:80",
        "http://a/v1:predict",
    ],
)
def test_a_url_names_a_server_and_a_base_path(text: str) -> None:
    assert names.check_url(text) == text
    assert re.fullmatch(names.URL_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with http"),
        ("10.0.0.1:8080", "must begin with http"),
        ("ftp://a", "must begin with http"),
        ("unix:///x", "must begin with http"),
        ("http:/a", "must begin with http"),
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://user:hunter2@a", "no user or password"),
        ("http://@a", "no user or password"),
        ("http://a?x=1", "no query"),
        ("http://a/?", "no query"),
        ("http://a#b", "no query"),
        ("http://a:0", "a port is a number"),
        ("http://a:", "a port is a number"),
        ("http://a:65536", "a port is a number"),
        ("http://a:hunter2", "a port is a number"),
        ("http://a/../b", "no '.' or '..'"),
        ("http://a/./b", "no '.' or '..'"),
        ("http://a b", "no spaces"),
        ("http://a\\b", "no spaces"),
        ("http://a\n", "no spaces"),
        ("http://bücher", "no spaces, backslashes or non-ASCII"),
        ("http://[::1", "cannot be read"),
        ("http://[::g]", "IPv6|cannot be read"),
        ("http://999.0.0.1", "no IPv4 address"),
        ("http://-a", "is no host"),
        ("http://a;b", "is no host"),
    ],
)
def test_what_is_no_servers_url_is_refused_without_its_password(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        names.check_url(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["0.0.0.0:8080", "127.0.0.1:0", "[::1]:80", "localhost:65535", ":8080", "*:8080"])
def test_an_address_says_where_to_listen(text: str) -> None:
    assert names.check_address(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8080", "is no address"),
        ("host", "is no address"),
        ("host:", "is no address"),
        ("host:65536", "is no address"),
        ("host:-1", "is no address"),
        ("http://a:80", "needs brackets|is no host"),
        ("::1:80", re.escape("an IPv6 address needs brackets: [::1]:80")),
        ("[::x]:80", "no IPv6 address"),
        ("[1.2.3.4]:80", "no IPv6 address"),
        ("256.0.0.1:80", "no IPv4 address"),
        ("a/b:80", "is no host"),
    ],
)
def test_what_nobody_can_listen_on_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        names.check_address(text)


@given(st.text(max_size=40) | st.text(alphabet="htps:/[]@?#.%a1\n ", max_size=30).map("http://{}".format))
def test_text_is_taken_or_refused(text: str) -> None:
    for check in (
        names.check_name,
        names.check_url,
        names.check_address,
        names.check_credential_header,
        names.check_sticky_header,
        names.check_variable,
    ):
        assert refusal(check, text).isprintable()
