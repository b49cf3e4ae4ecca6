"""Notices to a real HTTP server: signed, sent again, never in anybody's way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.config.notify_schema import Notify
from router.control.notify import QUEUE, TRIES, Notice, Notifier
from tests.support.stub_upstream import Answer, StubUpstream
from tests.unit.control.fakes import FakeClock, until

pytestmark = pytest.mark.anyio

SECRET = "hush"  # a test's own


def notice(number: int = 1, event: str = "rollback") -> Notice:
    return Notice(
        f"id-{number}", event, 1.0, "fraud", "v4", f"fraud v4 was rolled back, number {number}", {"n": number}
    )


@asynccontextmanager
async def notifier(*told: Notify, clock: FakeClock, **environ: str) -> AsyncIterator[Notifier]:
    made = Notifier(told, clock, environ)
    made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_webhook_gets_signed_json(clock: FakeClock) -> None:
    with StubUpstream() as server:
        told = Notify.model_validate({"url": server.url + "/hook?a=1", "secret": {"env": "SECRET"}})
        async with notifier(told, clock=clock, SECRET=SECRET) as sender:
            sender.tell(notice())
            await until(lambda: sender.receivers[0].delivered)
        (request,) = server.predictions
    assert request.target == "/hook?a=1"
    assert json.loads(request.body)["text"] == "fraud v4 was rolled back, number 1"
    stamp = request.header("x-canary-router-timestamp") or ""
    assert stamp == str(int(clock.wall()))
    expected = hmac.new(SECRET.encode(), stamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert request.header("x-canary-router-signature") == f"sha256={expected}"


async def test_slack_gets_a_message_at_a_url_from_a_file(clock: FakeClock, tmp_path: Path) -> None:
    with StubUpstream() as server:
        (tmp_path / "url").write_text(server.url + "/services/x\n")
        told = Notify.model_validate({"url": {"file": str(tmp_path / "url")}, "kind": "slack"})
        async with notifier(told, clock=clock) as sender:
            sender.tell(notice())
            await until(lambda: sender.receivers[0].delivered)
        (request,) = server.predictions
    assert json.loads(request.body) == {"text": "canary-router: fraud v4 was rolled back, number 1"}
    assert request.header("x-canary-router-signature") is None


async def test_what_did_not_arrive_is_sent_again_in_order(clock: FakeClock) -> None:
    with StubUpstream() as server:
        answers = iter([Answer(503), Answer(429), Answer(drop=True)])
        server.answer = lambda request: next(answers, Answer())
        async with notifier(Notify.model_validate({"url": server.url}), clock=clock) as sender:
            sender.tell(notice(1))
            sender.tell(notice(2))
            await until(lambda: sender.receivers[0].delivered == 2, clock=clock, step=1.0)
        ids = [request.header("x-canary-router-id") for request in server.predictions]
    assert ids == ["id-1"] * 4 + ["id-2"]


@pytest.mark.parametrize(("code", "requests"), [(400, 1), (302, 1), (500, TRIES)])
async def test_it_ends_one_day(clock: FakeClock, code: int, requests: int) -> None:
    with StubUpstream() as server:
        server.answer = Answer(code)
        async with notifier(Notify.model_validate({"url": server.url}), clock=clock) as sender:
            sender.tell(notice())
            await until(lambda: sender.receivers[0].failed, clock=clock, step=10.0)
        assert len(server.predictions) == requests


async def test_who_hangs_delays_nobody_and_memory_is_bounded(clock: FakeClock) -> None:
    with StubUpstream() as slow, StubUpstream() as quick:
        slow.answer = Answer(hold=True)
        both = (Notify.model_validate({"url": slow.url}), Notify.model_validate({"url": quick.url, "on": ["approval"]}))
        async with notifier(*both, clock=clock) as sender:
            for number in range(QUEUE + 10):
                sender.tell(notice(number))
                await asyncio.sleep(0)
            sender.tell(notice(1, "approval"))
            await until(lambda: sender.receivers[1].delivered == 1)
            assert sender.receivers[0].dropped >= 9
            slow.release()


async def test_a_missing_secret_sends_nothing_unsigned(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    with StubUpstream() as server:
        told = Notify.model_validate({"url": server.url, "secret": {"env": "NOT_SET"}})
        async with notifier(told, clock=clock) as sender:
            sender.tell(notice())
            await until(lambda: sender.receivers[0].failed, clock=clock, step=10.0)
        assert server.predictions == []
    assert server.url not in caplog.text
