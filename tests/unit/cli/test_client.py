"""How a command finds its router, and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from router.cli.client import AdminClient, find_router
from router.errors import ClientError, OperatorError, RouterError, UpstreamError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CANARY_ROUTER_ADMIN", "CANARY_ROUTER_TOKEN", "CANARY_ROUTER_STATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def serving(tmp_path: Path, admin: str = "http://127.0.0.1:4567") -> Path:
    """A state directory as a running router keeps it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "serving.json").write_text(json.dumps({"admin": admin}))
    (tmp_path / "state" / "admin-token").write_text("of-the-state\n")
    return tmp_path / "state"


def test_a_router_on_this_state_is_found_where_it_really_listens(tmp_path: Path) -> None:
    found = find_router(None, None, None, serving(tmp_path))
    assert (found.url, found.token) == ("http://127.0.0.1:4567", "of-the-state")


def test_the_option_prevails_over_the_variable_and_that_over_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = serving(tmp_path)
    monkeypatch.setenv("CANARY_ROUTER_ADMIN", "127.0.0.1:1111")
    assert find_router(None, None, None, state).url == "http://127.0.0.1:1111"
    assert find_router("https://router.example/", None, None, state).url == "https://router.example"


def test_without_anything_it_is_where_the_settings_say() -> None:
    assert find_router(None, None, None, None) == AdminClient("http://127.0.0.1:9090", "")


@pytest.mark.parametrize(
    ("address", "url"), [("0.0.0.0:9090", "http://127.0.0.1:9090"), ("[::]:9090", "http://[::1]:9090")]
)
def test_every_interface_is_reached_over_loopback(address: str, url: str) -> None:
    assert find_router(address, None, None, None).url == url


def test_the_state_s_token_never_leaves_this_machine(tmp_path: Path) -> None:
    assert find_router("http://elsewhere.example:9090", None, None, serving(tmp_path)).token == ""


def test_a_token_file_prevails_over_the_variable_and_that_over_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = serving(tmp_path)
    monkeypatch.setenv("CANARY_ROUTER_TOKEN", "of-the-variable")
    assert find_router(None, None, None, state).token == "of-the-variable"
    (tmp_path / "mine").write_text("of-the-file\n")
    assert find_router(None, tmp_path / "mine", None, state).token == "of-the-file"
    with pytest.raises(OperatorError, match="missing cannot be read"):
        find_router(None, tmp_path / "missing", None, state)


def test_a_broken_serving_json_is_passed_over(tmp_path: Path) -> None:
    state = serving(tmp_path)
    (state / "serving.json").write_text("{")
    assert find_router(None, None, None, state).url == "http://127.0.0.1:9090"


def answering(response: httpx.Response) -> AdminClient:
    """A client whose router always answers `response`."""
    return AdminClient("http://router", "secret-token", httpx.MockTransport(lambda _: response))


def test_the_token_travels_as_a_bearer() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"models": []})

    client = AdminClient("http://router", "secret-token", httpx.MockTransport(answer))
    assert client.get("/models", {"region": "eu"}) == {"models": []}
    assert str(seen[0].url) == "http://router/api/v1/models?region=eu"
    assert seen[0].headers["authorization"] == "Bearer secret-token"


@pytest.mark.parametrize(
    ("response", "kind", "told"),
    [
        (httpx.Response(404, json={"detail": "no model 'x'"}), ClientError, "no model 'x'"),
        (httpx.Response(401, json={"detail": "a token is needed"}), OperatorError, "a token is needed"),
        (httpx.Response(403, text="no"), OperatorError, "403 Forbidden"),
        (httpx.Response(200, text="<html>"), UpstreamError, "is no canary-router"),
        (httpx.Response(500, text="oops"), UpstreamError, "500"),
        (httpx.Response(302, headers={"location": "/x"}), UpstreamError, "302"),
    ],
)
def test_what_the_router_refuses_is_told(response: httpx.Response, kind: type[RouterError], told: str) -> None:
    with pytest.raises(kind) as raised:
        answering(response).get("/models")
    assert told in str(raised.value)
    assert "secret-token" not in str(raised.value)


def test_nobody_there_is_told_with_the_address() -> None:
    with pytest.raises(UpstreamError, match=r"no router answers at http://127\.0\.0\.1:1:") as raised:
        AdminClient("http://127.0.0.1:1").get("/models")
    assert "canary-router serve" in raised.value.hint


@pytest.mark.parametrize("url", ["http://[", "ftp://x", "http://"])
def test_an_impossible_address_is_told(url: str) -> None:
    with pytest.raises(UpstreamError, match="no router answers"):
        AdminClient(url).get("/models")
