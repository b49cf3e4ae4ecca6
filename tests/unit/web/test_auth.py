from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from router.web.auth import Guard


@dataclass(frozen=True)
class Token:
    name: str
    role: str
    sha256: str


def token(name: str, role: str) -> Token:
    return Token(name, role, hashlib.sha256(f"secret of {name}".encode()).hexdigest())


async def nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError("not called by judge")


TOKENS = (token("alice", "operator"), token("vera", "viewer"))
OPEN = Guard(nothing, tokens=TOKENS, read_token="loopback")
STRICT = Guard(nothing, tokens=TOKENS, read_token="required")


def judge(
    guard: Guard,
    *,
    method: str = "GET",
    peer: str | None = "127.0.0.1",
    host: str | None = "127.0.0.1:9090",
    **headers: str,
) -> tuple[str, int | None]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if host is not None:
        raw.append((b"host", host.encode()))
    scope = {"method": method, "headers": raw, "client": (peer, 1) if peer else None}
    actor, refusal = guard.judge(scope)
    return actor, refusal[0] if refusal else None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:9090", "localhost", "LOCALHOST:80", "[::1]:9090", "10.0.0.5"])
def test_reading_on_loopback_needs_no_token(peer: str, host: str) -> None:
    assert judge(OPEN, peer=peer, host=host) == ("", None)


@pytest.mark.parametrize("peer", ["10.0.0.5", "::2", "::ffff:10.0.0.5", "testclient", None])
def test_reading_from_elsewhere_needs_one(peer: str | None) -> None:
    assert judge(OPEN, peer=peer) == ("", 401)
    assert judge(OPEN, peer=peer, authorization="Bearer secret of vera") == ("vera", None)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.nip.io", None, ""]
)
def test_a_web_page_whose_name_points_to_loopback_reads_nothing(host: str | None) -> None:
    assert judge(OPEN, host=host) == ("", 403)


def test_whoever_is_behind_a_proxy_on_this_machine_needs_a_token() -> None:
    assert judge(OPEN, x_forwarded_for="10.0.0.5") == ("", 403)
    assert judge(OPEN, x_forwarded_for="10.0.0.5", authorization="Bearer secret of vera") == ("vera", None)


def test_where_a_token_is_required_loopback_needs_it_too() -> None:
    assert judge(STRICT) == ("", 401)
    assert judge(STRICT, authorization="bearer secret of vera") == ("vera", None)


def test_a_wrong_token_is_refused_even_where_none_is_needed() -> None:
    assert judge(OPEN, authorization="Bearer guess") == ("", 401)
    assert judge(OPEN, authorization="Basic c2VjcmV0") == ("", 401)
    assert judge(OPEN, authorization="Bearer") == ("", 401)


def test_changes_need_the_role_operator() -> None:
    assert judge(OPEN, method="POST") == ("", 401)
    assert judge(OPEN, method="POST", authorization="Bearer secret of vera") == ("vera", 403)
    assert judge(OPEN, method="DELETE", authorization="Bearer secret of alice") == ("alice", None)
