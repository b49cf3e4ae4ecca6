"""One request's life, top to bottom.

    begin → receive the body → pick → attempt → send → response → relay → finish
                                        ↑                  │
                                        └─ retry, fall back ┘

Rules:
1. A version is picked once, when the request can be sent; the weights in force then travel with its outcome.
2. An attempt may be followed by another only while nothing of a response went to the client, the body is held
   whole, the model is idempotent and the deadline has not passed; where nothing was sent, any model will do.
3. Retries stay within the picked version and within a budget; there is at most one fallback, to stable, and it is
   bounded by what stable has under way.
4. What the client sees is either a response relayed to its clean end, a problem, or an aborted connection.
5. Every request ends exactly once, in `_finish`, and is recorded there.
6. Nothing here waits: each step is a call from the client's or the server's connection, or from the wheel.

The usual request takes the straight way through `begin`, `_dispatch`, `_attempt`, `_send`, `response_arrived` and
`_finish`; every further function is for the others. A call costs as much as most features do, so these few are
longer than they would be elsewhere.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from random import random
from time import monotonic
from typing import TYPE_CHECKING

from router.core.outcome import FAILURE, REJECTION
from router.core.split import SLOTS, slot_of
from router.dataplane import headers
from router.dataplane.admission import UNUSUAL, Refused, check_unusual, find, own_answer
from router.dataplane.headers import COOKIE, ENCODING, LENGTH
from router.dataplane.problems import STATUS_LINES, Problem, Problems, render, status_line
from router.dataplane.routes import LiveArm, Match, Peer, choose
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from router.dataplane.protocol import ClientConnection
    from router.dataplane.routes import Route
    from router.dataplane.upstream import UpstreamConnection

RETRIED = frozenset({502, 503, 504})
"""A server's own failures worth another endpoint; a 500 is the model's and would come again."""

SHOWN_TO_STABLE = frozenset({400, 415, 422})
"""A canary's rejections that stable is asked about, too."""

CLIENT_GONE = 499
"""The code recorded where the client saw none; nginx's, since RFC 9110 has none for it."""

ROLLBACK = "rollback"
"""The reason of a fallback that is nobody's failure."""

STACK_TRACE = b'"stack_trace"'
"""What tells MLflow's report of an exception inside a model from a rejection."""

HELD_EXCEPTION = 64 * 1024
HELD_RESPONSE = 64 * 1024
MAX_INFLATED = 1024 * 1024
UPLOAD = 2
"""Why a client is not read from: its upload cannot be passed on. See `ClientConnection.pause_reading`."""

MAX_ATTEMPTS = 3
NO_BODY = frozenset({204, 304})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
STAYS = b"\r\n"
CLOSES = b"\r\nconnection: close\r\n"


class Exchange:
    """One request on its way. The class holds the defaults: an instance sets only what it needs to."""

    # What the client's connection found.
    method: bytes
    target: bytes
    lines: list[bytes]
    seen: int
    request_id: bytes
    forwarded: bytes
    special: Mapping[int | bytes, bytes] = {}
    fault: Problem | None = None
    version_11 = True
    length = 0
    rest: bytes = b""
    whole = False
    keep_alive = True

    # Where it is to go.
    route: Route
    match: Match
    picked: LiveArm | None = None
    overridden = False
    dispatched = False
    continue_awaited = False
    start = 0.0
    deadline = NEVER
    timeout_line: bytes = b""

    # Its body.
    body: bytes = b""
    body_bytes = 0
    held = 0
    pending: list[bytes] | None = None
    taken = False
    streaming = False

    # The attempt under way, and those before.
    arm: LiveArm
    peer: Peer
    connection: UpstreamConnection | None = None
    connecting: asyncio.Task[None] | None = None
    attempts = 0
    attempt_deadline = NEVER
    sent_at = 0.0
    upstream_time = 0.0
    failed_peer: Peer | None = None
    retries = 0
    fallback_reason = ""
    told = 0

    # Its answer.
    code = 0
    relaying = False
    chunked_out = False
    suspicious: bytes | None = None
    finished = False

    def __init__(self, client: ClientConnection) -> None:
        self.client = client

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return self.length > 0 or bool(self.seen & ENCODING)

    # -- begin

    def begin(self) -> None:
        """Its turn has come on the client's connection: the head is complete, the body perhaps."""
        self.start = now = monotonic()
        if self.fault is not None:
            self.refuse(self.fault)
            return
        try:
            table = self.client.table
            match = table.exact.get(self.target) or find(self, table)
            if match is None:
                self._answer(own_answer(self.method, self.target, ready=self.client.worker.ready))
                return
            self.match = match
            self.route = route = match.route
            self.deadline = now + route.timeout
            self.timeout_line = route.timeout_line
            if self.seen & UNUSUAL:
                check_unusual(self)
        except Refused as refusal:
            self.refuse(refusal.problem, refusal.detail)
            return
        if self.length > route.max_body or len(self.rest) > route.max_body:
            self.refuse(Problems.TOO_LARGE)
        elif self.whole:
            self.body = self.rest
            self._dispatch(now)
        else:
            self.pending = []
            self.timeout_line = b""  # what the body takes is not left for the server
            if self.continue_awaited and not self._say_continue(now):
                return
            self.body_arrived()

    def _say_continue(self, now: float) -> bool:
        """Asks for the body, unless it is already plain that nobody could take it."""
        arm = self.picked or self.route.single
        if arm is not None and not arm.admitted:
            self._dispatch(now)
            return False
        self.client.transport.write(CONTINUE)
        return True

    def _answer(self, body: bytes) -> None:
        """A 200 of the router's own."""
        self.client.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: %b%bcontent-length: %d\r\n\r\n%b"
            % (
                self.request_id,
                STAYS if self.keep_alive else CLOSES,
                len(body),
                b"" if self.method == b"HEAD" else body,
            )
        )
        self._finish("", monotonic())

    # -- receive the body

    def body_arrived(self) -> None:
        """More of the body is here, perhaps the rest of it."""
        pending = self.pending
        if self.finished or pending is None or self.taken:
            return
        client = self.client
        self.taken = self.whole
        data = self.rest if self.whole else client.take_body()
        self.body_bytes += len(data)
        if self.body_bytes > self.route.max_body:
            self.refuse(Problems.TOO_LARGE)
        elif self.streaming:
            self._upload(data)
        else:
            pending.append(data)
            self.held += len(data)
            client.worker.held += len(data)
            if self.whole:
                self.body = b"".join(pending)
                self.pending = None
                self._renew_route()
                self._dispatch(monotonic())
            elif max(self.length, self.body_bytes) > self.route.buffer or client.worker.over_budget():
                self.streaming = True
                self._renew_route()
                self._dispatch(monotonic())
            else:
                client.await_body()

    def _upload(self, data: bytes) -> None:
        """Passes a piece of a body on that is too large to be held."""
        if self.connection is None:
            if data and self.pending is not None:
                self.pending.append(data)
                self.client.pause_reading(UPLOAD)
            return
        framed = self._framed(data)
        if framed:
            self.connection.transport.write(framed)
        if not self.whole:
            self.client.await_body()

    def _framed(self, data: bytes) -> bytes:
        """`data` as the next piece of a streamed upload; the last piece ends it."""
        if not self.seen & ENCODING:
            return data
        return chunk(data, last=self.whole)

    def upload_blocked(self) -> None:
        """The model server takes the body more slowly than the client sends it."""
        if self.streaming:
            self.client.pause_reading(UPLOAD)

    def upload_unblocked(self) -> None:
        """The model server takes the body again."""
        if self.streaming and not self.relaying:
            self.client.resume_reading(UPLOAD)

    # -- pick

    def _dispatch(self, now: float) -> None:
        """Everything is known that decides which version gets the request."""
        arm = self.picked or self.route.single
        if arm is None:
            route = self.route
            key = self.special.get(route.sticky_header) if route.sticky_header else self.sticky_key()
            slot = slot_of(route.name, key) if key else int(random() * SLOTS)  # noqa: S311 - a draw, not a secret
            arm = route.arm_at(slot)
        self.picked = self.arm = arm
        self.dispatched = True
        load = arm.load
        load.requests += 1
        load.started += 1
        worker = self.client.worker
        worker.in_flight += 1
        if worker.in_flight > worker.limits.in_flight:
            self.refuse(Problems.OVERLOADED)
        elif arm.admitted:
            self._attempt(now)
        else:
            self.refuse(Problems.NOT_READY)

    def _renew_route(self) -> None:
        """The body took a while to come: the weights in force now decide, not those when its head came."""
        self.route = self.client.table.get(self.route.model) or self.route

    def sticky_key(self) -> bytes:
        """What decides which version its sender gets; b"" for nothing."""
        route = self.route
        if route.sticky_header:
            return self.special.get(route.sticky_header, b"")
        if route.sticky_cookie and self.seen & COOKIE:
            return headers.cookie_value(self.special[COOKIE], route.sticky_cookie)
        return b""

    # -- attempt and send

    def _attempt(self, now: float, *, fresh: bool = False) -> None:
        """One try at the current arm, at the endpoint that seems best; on a fresh connection if one must not be old."""
        peers = self.arm.peers
        peer = peers[0] if len(peers) == 1 else choose(peers, now, self.failed_peer)
        if peer is None:
            self.refuse(Problems.NOT_READY)
            return
        client = self.client
        pool = peer.pool
        self.peer = peer
        if pool.in_flight >= pool.busy and pool.is_full(now, min(self.route.attempt_timeout, self.deadline - now)):
            self._overloaded()
            return
        pool.in_flight += 1
        self.attempts += 1
        self.sent_at = now
        deadline = now + self.route.attempt_timeout
        if deadline > self.deadline:
            deadline = self.deadline
        self.attempt_deadline = deadline
        if client.due > deadline:
            client.watch(deadline)
        connection = None if fresh else pool.take(now)
        if connection is None:
            self.connecting = pool.connect(self)
        else:
            self._send(connection)
            self.sent_at = monotonic()

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection was opened for this attempt."""
        self.connecting = None
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        connection.exchange = self
        arm, (_, before, after, named) = self.arm, self.match
        target = before + arm.upstream_model + after if named else before
        if self.streaming:
            framing, body = self._start_of_stream()
        elif self.seen & (LENGTH | ENCODING):
            body = self.body
            framing = b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        else:
            framing, body = b"\r\n\r\n", b""
        connection.transport.write(
            b"".join(
                [
                    self.peer.head(self.method, target),
                    *(headers.without(self.lines, arm.replaced_headers) if arm.replaced_headers else self.lines),
                    self.forwarded,
                    self.timeout_line or self._remaining(),
                    b"x-request-id: ",
                    self.request_id,
                    framing,
                    body,
                ]
            )
        )

    def _remaining(self) -> bytes:
        """The rest of the deadline, for an attempt that does not have all of it."""
        return b"x-request-timeout: %dms\r\n" % max(1, int((self.deadline - monotonic()) * 1000))

    def _start_of_stream(self) -> tuple[bytes, bytes]:
        """The framing of a streamed upload, and what has come of it so far."""
        data = b"".join(self.pending or ())
        self.pending = []
        self._let_go_of_body()
        self.client.resume_reading(UPLOAD)
        if not self.whole:
            self.client.await_body()
        if self.seen & ENCODING:
            return b"\r\ntransfer-encoding: chunked\r\n\r\n", self._framed(data)
        return b"\r\ncontent-length: %d\r\n\r\n" % self.length, data

    # -- response, relay

    def response_arrived(self, connection: UpstreamConnection) -> None:
        """The head of a response is complete, or more of its body is here, or it has ended."""
        if self.relaying:
            self._relay_more(connection)
            return
        status = connection.status
        if status >= 400 and self._reconsider(connection, status):
            return
        self.code = status
        if not connection.complete or not self.whole:
            if not self._is_worth_holding(connection):
                self._relay_head(connection, status)
            return
        arrived = monotonic()
        body = connection.body[0] if len(connection.body) == 1 else b"".join(connection.body)
        if self.method == b"HEAD" or status in NO_BODY:
            framing, body = bodiless_framing(connection, status), b""
        else:
            framing = b"content-length: %d\r\n\r\n" % len(body)
        data = b"".join(
            [
                STATUS_LINES.get(status) or status_line(status),
                *connection.lines,
                self.arm.version_line,
                b"x-request-id: ",
                self.request_id,
                STAYS if self.keep_alive else CLOSES,
                framing,
                body,
            ]
        )
        self._end_attempt(connection, arrived)
        self.client.transport.write(data)
        self._finish("", monotonic())

    def _is_worth_holding(self, connection: UpstreamConnection) -> bool:
        """Whether to wait for the rest: a short response that breaks off can still be answered by another attempt."""
        length = connection.length
        return (
            self.route.idempotent
            and self.whole
            and not self.streaming
            and length.isdigit()
            and int(length) <= HELD_RESPONSE
        )

    def _relay_head(self, connection: UpstreamConnection, status: int) -> None:
        """The response comes in pieces: its head leaves now, the rest as it comes."""
        self.relaying = True
        client = self.client
        if not self.whole:
            # An answer before the end of the upload: the rest of the upload is not wanted.
            self.keep_alive = False
            client.pause_reading(UPLOAD)
        if self.method == b"HEAD" or status in NO_BODY:
            framing = bodiless_framing(connection, status)
        elif connection.seen & LENGTH and not connection.seen & ENCODING:
            framing = b"content-length: %b\r\n\r\n" % connection.length
        elif self.version_11:
            self.chunked_out = True
            framing = b"transfer-encoding: chunked\r\n\r\n"
        else:
            self.keep_alive = False
            framing = b"\r\n"
        client.transport.write(
            b"".join(
                [
                    status_line(status),
                    *connection.lines[: connection.head_lines],
                    self.arm.version_line,
                    b"x-request-id: ",
                    self.request_id,
                    STAYS if self.keep_alive else CLOSES,
                    framing,
                ]
            )
        )
        self._relay_more(connection)

    def _relay_more(self, connection: UpstreamConnection) -> None:
        data = connection.take_body()
        now = monotonic()
        if self.suspicious is not None and self._shows_exception(data):
            self._break_off(connection, now)
            return
        complete = connection.complete
        if complete:
            # Before the write: it may find the client slow, which must not pause a connection given back.
            self._end_attempt(connection, now)
        if self.chunked_out:
            data = chunk(data, last=complete)
        if complete:
            self.client.transport.write(data)
            self._finish("", now)
            return
        if self.client.blocked_since == NEVER:
            if not connection.seen & LENGTH:
                # Nobody knows how long a stream goes on: the deadline bounds each silence instead of the whole.
                self.deadline = now + self.route.timeout
            self.attempt_deadline = self.deadline
            self.client.watch(self.deadline)
        if data:
            self.client.transport.write(data)

    def _shows_exception(self, data: bytes) -> bool:
        """Whether a rejection too long to be held turns out to be a model's exception."""
        window = (self.suspicious or b"") + data
        self.suspicious = window[1 - len(STACK_TRACE) :]
        return STACK_TRACE in window

    def download_blocked(self) -> None:
        """The client takes the response more slowly than it comes: that is not the server's silence."""
        if self.connection is not None and self.relaying:
            self.connection.transport.pause_reading()
            self.attempt_deadline = self.deadline = NEVER

    def download_unblocked(self) -> None:
        """The client takes the response again."""
        if self.connection is not None and self.relaying:
            self.connection.transport.resume_reading()
            self.attempt_deadline = self.deadline = monotonic() + self.route.timeout
            self.client.watch(self.deadline)

    # -- retry, fall back

    def _reconsider(self, connection: UpstreamConnection, status: int) -> bool:
        """Whether a response of 400 or more is not what the client gets, or cannot be told yet."""
        if status == 400 and connection.is_json():
            held = b"".join(connection.body)
            if STACK_TRACE in held or (connection.complete and reports_exception(held)):
                self._end_attempt(connection, monotonic(), failed=True)
                self._go_on_or_fail("exception", Problems.EXCEPTION, retry=False, answered=True)
                return True
            if not connection.complete:
                if len(held) <= HELD_EXCEPTION:
                    return True
                self.suspicious = b""
        if status < 500 and status not in SHOWN_TO_STABLE:
            return False
        step = self._next_step(retry=status in RETRIED)
        if step is None:
            return False
        self._end_attempt(connection, monotonic(), failed=status >= 500)
        step("rejection" if status < 500 else f"status_{status}")
        return True

    def attempt_failed(self, connection: UpstreamConnection | None, problem: Problem) -> None:
        """The connection broke, the response is no HTTP, or the attempt's time is up."""
        if self.finished:
            return
        now = monotonic()
        if self.relaying:
            self._break_off(connection, now)
            return
        stale = (
            problem is Problems.BROKE
            and connection is not None
            and connection.used
            and not connection.head_bytes
            and not connection.head_done
        )
        self._end_attempt(connection, now, failed=not stale)
        if stale and connection is not None:
            self.peer.pool.closed_idle(self.sent_at - connection.idle_since)
        if self._may_start_over(now, stale=stale, unsent=connection is None):
            # Closed while it was idle, or nothing was sent: no retry in the budget's sense.
            self.failed_peer = self.peer
            self._attempt(now, fresh=True)
        else:
            self._go_on_or_fail(_REASONS.get(problem.name, "broken"), problem, retry=True)

    def _break_off(self, connection: UpstreamConnection | None, now: float) -> None:
        """A response that cannot be completed ends in a broken connection, never in a clean end."""
        self._end_attempt(connection, now, failed=True)
        self.client.abort()
        self._finish("failure", now)

    def connect_failed(self, problem: Problem) -> None:
        """No connection could be opened for this attempt."""
        self.connecting = None
        self.attempt_failed(None, problem)

    def _may_start_over(self, now: float, *, stale: bool, unsent: bool) -> bool:
        """Whether the same attempt may be made once more, elsewhere if it can be.

        Args:
            now: the time.
            stale: a reused connection died before anything of a response came.
            unsent: nothing was sent at all; then this is safe for every model, but pointless at the same endpoint.
        """
        if unsent:
            return len(self.arm.peers) > 1 and self.attempts < MAX_ATTEMPTS and now < self.deadline
        return stale and self._may_try_again()

    def _may_try_again(self) -> bool:
        return (
            self.route.idempotent
            and not self.streaming
            and not self.relaying
            and self.attempts < MAX_ATTEMPTS
            and monotonic() < self.deadline
        )

    def _may_fall_back(self) -> bool:
        route = self.route
        return (
            route.fallback
            and not self.fallback_reason
            and self.arm is not route.stable
            and not self.overridden
            and route.stable.admitted
            and not self.streaming
            and not self.relaying
            and monotonic() < self.deadline
            and route.stable.load.requests < self.client.worker.limits.in_flight_per_endpoint
        )

    def _next_step(self, *, retry: bool) -> Callable[[str], None] | None:
        """What may follow a failed attempt: a retry within the version, else the fallback, else nothing."""
        may_fall_back = self._may_fall_back()
        if (
            retry
            and not self.retries
            and self._may_try_again()
            and (len(self.arm.peers) > 1 or not may_fall_back)
            and self.arm.load.may_retry(monotonic())
        ):
            return self._retry
        return self._fall_back if may_fall_back else None

    def _go_on_or_fail(self, reason: str, problem: Problem, *, retry: bool, answered: bool = False) -> None:
        step = self._next_step(retry=retry)
        if step is None:
            self._fail(problem, answered=answered)
        else:
            step(reason)

    def _retry(self, _reason: str) -> None:
        """Another attempt within the version, at another endpoint where there is one."""
        self.retries += 1
        self.failed_peer = self.peer
        self.timeout_line = b""
        self._attempt(monotonic())

    def _fall_back(self, reason: str) -> None:
        """One attempt at stable, which answers in the canary's place."""
        if reason != ROLLBACK:
            kind = REJECTION if reason == "rejection" else FAILURE
            self.client.worker.witness.failed(self, kind, monotonic())
        self.fallback_reason = reason
        self.failed_peer = None
        self.timeout_line = b""
        stable = self.route.stable
        self.arm.load.requests -= 1
        stable.load.requests += 1
        self.arm = stable
        self._attempt(monotonic())

    def rolled_back(self) -> None:
        """Its canary was rolled back while it waits for an answer: stable gives it one, where that is allowed."""
        if self._may_fall_back() and self._cancel_attempt():
            self._fall_back(ROLLBACK)

    def _overloaded(self) -> None:
        if self._may_fall_back():
            self._fall_back("overloaded")
        else:
            self._fail(Problems.OVERLOADED)

    def _end_attempt(self, connection: UpstreamConnection | None, now: float, *, failed: bool = False) -> None:
        """Gives the connection back, or closes it where the response did not end cleanly."""
        took = now - self.sent_at
        self.upstream_time += took
        self.attempt_deadline = NEVER
        self.connection = None
        pool = self.peer.pool
        pool.in_flight -= 1
        if connection is None:
            pool.health.failed(now)
            if self.connecting is not None:
                self.connecting.cancel()
                self.connecting = None
            return
        if failed or connection.status >= 500:
            pool.health.failed(now)
        elif pool.health.failures:
            pool.health.succeeded()
        if connection.complete and (not self.streaming or self._upload_is_out(connection)):
            pool.answers += 1
            pool.took += took
            connection.release(now)
        else:
            connection.discard()

    def _upload_is_out(self, connection: UpstreamConnection) -> bool:
        """Whether the server can have had the whole upload; else the rest would be taken for the next request."""
        return self.whole and self.taken and not connection.transport.get_write_buffer_size()

    # -- finish

    def next_deadline(self) -> float:
        """When `expire` has to be called."""
        return min(self.attempt_deadline, self.deadline)

    def expire(self, now: float) -> None:
        """The attempt's time or the request's is up."""
        if not self.whole and not self.relaying and not self.client.held_back:
            self.refuse(Problems.REQUEST_TIMEOUT)  # the client is what is slow
        elif self.connection is not None or self.connecting is not None:
            self.attempt_failed(self.connection, Problems.DEADLINE)
        elif now >= self.deadline:
            self.refuse(Problems.DEADLINE)

    def client_gone(self) -> None:
        """The client went away first: the model server need not go on."""
        if not self.finished:
            now = monotonic()
            if self._cancel_attempt():
                self.upstream_time += now - self.sent_at
            self._finish("abandoned", now)

    def refuse(self, problem: Problem, detail: str = "") -> None:
        """Answers with a problem instead of a model's response."""
        self._cancel_attempt()
        if self.relaying:
            self.client.abort()
            self._finish("abandoned", monotonic())
        elif not self.finished:
            self._fail(problem, detail)

    def _cancel_attempt(self) -> bool:
        """Ends the attempt under way, if there is one, at nobody's charge."""
        if self.connecting is None and self.connection is None:
            return False
        self.peer.pool.in_flight -= 1
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.connection is not None:
            self.connection.discard()
            self.connection = None
        return True

    def _fail(self, problem: Problem, detail: str = "", *, answered: bool = False) -> None:
        """Sends a problem; `answered` where a version did answer, but its answer must not leave the router."""
        if not self.whole:
            self.keep_alive = False
        extra = self.arm.version_line if answered else b""
        if not self.keep_alive:
            extra += b"connection: close\r\n"
        self.code = problem.status
        self.client.transport.write(
            render(
                problem,
                detail,
                model=self.route.model if self.deadline != NEVER else "",
                request_id=self.request_id,
                extra=extra,
                head_only=self.method == b"HEAD",
            )
        )
        self._finish("", monotonic())

    def _let_go_of_body(self) -> None:
        if self.held:
            self.client.worker.held -= self.held
            self.held = 0

    def _finish(self, result: str, now: float) -> None:
        """The end of every request: it is recorded, and the client's connection goes on or closes."""
        self.finished = True
        client = self.client
        if self.pending is not None or self.held:
            self.pending = None
            self._let_go_of_body()
        if self.dispatched and self.picked is not None:
            self.arm.load.requests -= 1
            client.worker.in_flight -= 1
            code = self.code
            if not result:
                if code < 500 and self.fallback_reason:
                    result = "fallback"
                else:
                    result = "ok" if code < 400 else "rejection" if code < 500 else "failure"
            worker = client.worker
            took = now - self.start
            if result != "ok" or took > self.picked.slow_after:
                worker.witness.ended(self, result, now)
            worker.records.append(
                (
                    self.picked,
                    code if result != "abandoned" else CLIENT_GONE,
                    result,
                    self.method == b"POST" and not self.overridden,
                    took,
                    self.upstream_time,
                    self.fallback_reason,
                    self.retries,
                )
            )
            if result == "failure" or self.fallback_reason:
                worker.flush_soon()
        if result != "abandoned":
            client.exchange_done(self, now)


_REASONS = {
    Problems.REFUSED.name: "connect",
    Problems.TLS.name: "connect",
    Problems.BROKE.name: "broken",
    Problems.GARBLED.name: "broken",
    Problems.DEADLINE.name: "timeout",
}


def reports_exception(body: bytes) -> bool:
    """Whether a JSON body is MLflow's report of an exception, however it is spelt or compressed."""
    with suppress(zlib.error):
        # 32: gzip or zlib, told apart by their heads; what is neither raises.
        body = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS).decompress(body, MAX_INFLATED)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return STACK_TRACE in body
    return isinstance(found, dict) and "stack_trace" in found


def chunk(data: bytes, *, last: bool) -> bytes:
    """`data` as one chunk (none if it is empty), and the end of the body behind it if it is the last."""
    framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return framed + LAST_CHUNK if last else framed


def bodiless_framing(connection: UpstreamConnection, status: int) -> bytes:
    """The framing of a response that has no body whatever its head says; HEAD keeps its length."""
    if connection.body:
        # A body came all the same, or a part of it: who knows what comes next.
        connection.body.clear()
        connection.keep_alive = False
    if connection.length and status != 204:
        return b"content-length: %b\r\n\r\n" % connection.length
    return b"\r\n"
