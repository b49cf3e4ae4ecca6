"""Tests of router.serving.app: the ASGI application around a prediction that is only a function."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from router.serving.answers import Answer
from router.serving.app import App

pytestmark = pytest.mark.anyio


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """The one thread that predicts."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def echo(body: bytes, content_type: str | None) -> Answer:
    """Answers with what it was given."""
    return Answer(200, body + b" as " + (content_type or "nothing").encode(), "text/plain")


async def call(app: App, method: str, path: str, **content: Any) -> httpx.Response:
    """One request to `app`."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://model") as client:
        return await client.request(method, path, **content)


async def test_a_prediction_gets_body_and_content_type(executor: ThreadPoolExecutor) -> None:
    app = App(echo, executor, "3.0")
    answer = await call(app, "POST", "/invocations", content=b"x", headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.text) == (200, "x as text/csv")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "13"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/ping", 200, "\n"),
        ("GET", "/health", 200, "\n"),
        ("GET", "/version", 200, "3.0"),
        ("GET", "/invocations", 405, '{"detail":"Method Not Allowed"}'),
        ("POST", "/ping", 405, '{"detail":"Method Not Allowed"}'),
        ("GET", "/else", 404, '{"detail":"Not Found"}'),
        ("POST", "/invocations/", 404, '{"detail":"Not Found"}'),
    ],
)
async def test_the_other_paths(executor: ThreadPoolExecutor, method: str, path: str, status: int, text: str) -> None:
    answer = await call(App(echo, executor, "3.0"), method, path)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"] == "application/json"


async def test_a_prediction_without_end_is_504(executor: ThreadPoolExecutor) -> None:
    go_on = threading.Event()

    def stuck(_body: bytes, _content_type: str | None) -> Answer:
        go_on.wait(30)
        return Answer(200, b"late", "text/plain")

    app = App(stuck, executor, "3.0", timeout=0.05)
    try:
        assert (await call(app, "POST", "/invocations", content=b"x")).status_code == 504
        assert (await call(app, "GET", "/ping")).status_code == 200
    finally:
        go_on.set()


class Client:
    """An ASGI client that sends one body and can go away."""

    def __init__(self, *messages: MutableMapping[str, Any]) -> None:
        self.messages = list(messages)
        self.sent: list[MutableMapping[str, Any]] = []
        self.left = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)


SCOPE = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}


async def test_who_leaves_before_his_turn_is_not_worked_for(executor: ThreadPoolExecutor) -> None:
    started, go_on, predicted = threading.Event(), threading.Event(), []

    def predict(body: bytes, _content_type: str | None) -> Answer:
        predicted.append(body)
        started.set()
        go_on.wait(30)
        return Answer(200, body, "text/plain")

    app = App(predict, executor, "3.0")
    first, second = (Client({"type": "http.request", "body": body}) for body in (b"first", b"second"))
    try:
        one = asyncio.create_task(app(SCOPE, first.receive, first.send))
        assert await asyncio.to_thread(started.wait, 30)
        two = asyncio.create_task(app(SCOPE, second.receive, second.send))
        second.left.set()
        await asyncio.wait_for(two, 30)
    finally:
        go_on.set()
    await asyncio.wait_for(one, 30)
    assert (predicted, second.sent) == ([b"first"], [])
    assert first.sent[1]["body"] == b"first"


async def test_a_body_in_parts_is_put_together(executor: ThreadPoolExecutor) -> None:
    client = Client({"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"})
    await App(echo, executor, "3.0")(SCOPE, client.receive, client.send)
    assert client.sent[1]["body"] == b"ab as nothing"


async def test_a_body_that_never_ends_is_nobodys(executor: ThreadPoolExecutor) -> None:
    client = Client({"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"})
    await App(echo, executor, "3.0")(SCOPE, client.receive, client.send)
    assert client.sent == []
