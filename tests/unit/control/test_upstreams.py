from __future__ import annotations

from pathlib import Path

import pytest

from router.control.needs import Credential
from router.control.upstreams import addresses_of, headers_of, parse
from router.core.snapshot import Endpoint
from router.errors import OperatorError


def test_plain_http() -> None:
    upstream = parse("http://fraud.internal:8080/base/")
    assert upstream.endpoint("10.0.0.1") == Endpoint("tcp", "10.0.0.1", 8080, "fraud.internal:8080", "", "/base")


def test_https_checks_the_name_whatever_the_address() -> None:
    upstream = parse("https://fraud.internal")
    assert upstream.endpoint("10.0.0.1") == Endpoint("tls", "10.0.0.1", 443, "fraud.internal", "fraud.internal", "")


def test_ipv6() -> None:
    upstream = parse("http://[::1]:9000")
    assert (upstream.host, upstream.authority) == ("::1", "[::1]:9000")


def test_credentials_in_a_url_are_not_sent_as_host() -> None:
    assert parse("http://user:secret@host:1").authority == "host:1"


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:99999", "host:80"])
def test_what_is_no_upstream_is_refused(url: str) -> None:
    with pytest.raises(OperatorError):
        parse(url)


def test_addresses_of_a_literal() -> None:
    assert addresses_of("127.0.0.1") == ("127.0.0.1",)


def test_headers_come_from_variables_and_files(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("Bearer abc\n")
    credentials = [Credential("authorization", "file", str(secret)), Credential("x-key", "env", "KEY")]
    assert headers_of(credentials, {"KEY": "k"}) == (("authorization", "Bearer abc"), ("x-key", "k"))


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\x00b", "ü"])
def test_what_no_header_may_have_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(OperatorError) as caught:
        headers_of([Credential("x-key", "env", "KEY")], {"KEY": value})
    assert "x-key" in str(caught.value)
    assert value.strip() == "" or value not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="variable KEY is not set"):
        headers_of([Credential("x-key", "env", "KEY")], {})
    with pytest.raises(OperatorError, match="cannot be read: No such file"):
        headers_of([Credential("x-key", "file", str(tmp_path / "none"))], {})
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(OperatorError, match="not ASCII"):
        headers_of([Credential("x-key", "file", str(tmp_path / "bytes"))], {})
