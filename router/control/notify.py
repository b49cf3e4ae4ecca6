"""Tells people what the router decided: webhooks, and hooks that understand what Slack does.

Rules:
1. Nobody waits for it: a notice is put into a queue that never blocks. A queue that is full drops its oldest notice,
   and says so in the log and in `dropped`.
2. What did not arrive is sent again, later and later, `TRIES` times in all; an answer that says the notice itself is
   wrong (4xx, but 408 and 429) ends it at once. Receivers keep their order; none waits for another.
3. Each notice has an id that stays the same when it is sent again, so that a receiver can count it once.
4. With a secret, `x-canary-router-signature` is `sha256=` + HMAC-SHA256 in hex of timestamp, a dot and the body.
5. No URL and no secret is ever logged: a URL may be a secret itself. A redirect is not followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from router.clock import Clock
from router.config.notify_schema import Notify
from router.control.backoff import Backoff
from router.control.tasks import Tasks

log = logging.getLogger(__name__)

QUEUE = 200
TRIES = 8
TIMEOUT_SECONDS = 5.0
TRY_AGAIN = frozenset({408, 429})


class Notice(msgspec.Struct, frozen=True):
    """Something people want to know. `event` is a word of `notify_schema.EVENTS`, `time` wall-clock seconds.

    `text` is one sentence; `details` is what was recorded of it.
    """

    id: str
    event: str
    time: float
    model: str
    version: str
    text: str
    details: dict[str, Any] = {}


class Sealed(NamedTuple):
    """A request as it is sent."""

    body: bytes
    headers: Mapping[str, str]


def seal(notice: Notice, kind: str, secret: str, at: float) -> Sealed:
    """What is POSTed to tell a receiver of `kind` about `notice` at wall-clock time `at`; signed where `secret` is."""
    shown: object = {"text": f"canary-router: {notice.text}"} if kind == "slack" else notice
    body = msgspec.json.encode(shown)
    headers = {"content-type": "application/json", "user-agent": "canary-router", "x-canary-router-id": notice.id}
    if secret:
        timestamp = str(int(at))
        signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers |= {"x-canary-router-timestamp": timestamp, "x-canary-router-signature": f"sha256={signature}"}
    return Sealed(body, headers)


class Receiver:
    """One entry of `notify`, and what waits for it. `name` tells it apart in the log."""

    def __init__(self, name: str, told: Notify, clock: Clock, environ: Mapping[str, str]) -> None:
        self.name = name
        self._told = told
        self._clock = clock
        self._environ = environ
        self._waiting: deque[Notice] = deque()
        self._woken = asyncio.Event()
        self.dropped = 0
        self.failed = 0
        self.delivered = 0

    def put(self, notice: Notice) -> None:
        """Rule 1."""
        if notice.event not in self._told.on:
            return
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            self.dropped += 1
            log.warning("%s has too many notices waiting: the oldest is dropped", self.name)
        self._waiting.append(notice)
        self._woken.set()

    async def work(self) -> None:
        """Sends what waits, for ever."""
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False) as client:
            while True:
                while self._waiting:
                    await self._deliver(client, self._waiting.popleft())
                self._woken.clear()
                await self._woken.wait()

    async def _deliver(self, client: httpx.AsyncClient, notice: Notice) -> None:
        """Rule 2."""
        backoff = Backoff(1.0, 60.0)
        while True:
            problem, final = await self._try(client, notice)
            if not problem:
                self.delivered += 1
                return
            backoff.fail()
            if final or backoff.failures >= TRIES:
                self.failed += 1
                log.warning("%s was not told of %s of %s: %s", self.name, notice.event, notice.model, problem)
                return
            await self._clock.sleep(backoff.pause)

    async def _try(self, client: httpx.AsyncClient, notice: Notice) -> tuple[str, bool]:
        """Why it did not arrive, "" where it did; and whether trying again is of no use."""
        try:
            url = self._told.url.text or await self._find(self._told.url.env, self._told.url.file)
            secret = self._told.secret
            key = await self._find(secret.env, secret.file) if secret is not None else ""
            sealed = seal(notice, self._told.kind, key, self._clock.wall())
            response = await client.post(url, content=sealed.body, headers=dict(sealed.headers))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, KeyError) as error:
            return f"it cannot be reached ({type(error).__name__})", False
        code = response.status_code
        if response.is_success:
            return "", True
        return f"it answered {code}", 300 <= code < 500 and code not in TRY_AGAIN

    async def _find(self, env: str | None, file: str | None) -> str:
        if env is not None:
            return self._environ[env].strip()
        return (await asyncio.to_thread(Path(file or "").read_text, encoding="utf-8")).strip()


class Notifier:
    """Everybody who is told."""

    def __init__(self, told: Sequence[Notify], clock: Clock, environ: Mapping[str, str] = os.environ) -> None:
        self.receivers = [Receiver(f"notify[{i}]", entry, clock, environ) for i, entry in enumerate(told)]
        self._tasks = Tasks(clock)

    def start(self) -> None:
        """Begins to deliver."""
        for receiver in self.receivers:
            self._tasks.start(receiver.name, receiver.work)

    def tell(self, notice: Notice) -> None:
        """Has everybody told who wants to know; returns at once."""
        for receiver in self.receivers:
            receiver.put(notice)

    async def close(self) -> None:
        """Ends it; what waits is not sent any more."""
        await self._tasks.close()
