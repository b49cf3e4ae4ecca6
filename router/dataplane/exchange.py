"""One request's life, top to bottom.

    begin → receive the body → pick → attempt → send → response → relay → finish
                                        ↑                  │
                                        └─ retry, fall back ┘

Rules:
1. A version is picked once, when the request can be sent; the weights in force then travel with its outcome.
2. What the client sees is either a response relayed to its clean end, a problem, or an aborted connection.
3. Every request ends exactly once, in `finish`, and is recorded there.
4. Nothing here waits: each step is a call from the client's or the server's connection, or from the wheel.

The usual request takes the straight way through `begin`, `dispatch`, `attempt`, `send`, `response_arrived` and
`finish`, all of it in this file; bodies in pieces are in `streams.py`, second attempts in `recovery.py`. A call costs
as much as most features do, so these few are longer than they would be elsewhere.
"""

from __future__ import annotations

from random import random
from time import monotonic
from typing import TYPE_CHECKING

from router.core.split import SLOTS, slot_of
from router.dataplane import headers, recovery, streams
from router.dataplane.admission import UNUSUAL, Refused, check_unusual, find, own_answer
from router.dataplane.framing import (
    CLOSES,
    CONTINUE,
    LENGTHS,
    NO_BODY,
    SHORT,
    STAYS,
    bodiless_framing,
    ended_by_length,
)
from router.dataplane.headers import COOKIE, ENCODING, LENGTH
from router.dataplane.problems import STATUS_LINES, Problem, Problems, render, status_line
from router.dataplane.routes import choose
from router.dataplane.state import ExchangeState
from router.dataplane.streams import UPLOAD
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    from router.dataplane.upstream import UpstreamConnection

CLIENT_GONE = 499
"""The code recorded where the client saw none; nginx's, since RFC 9110 has none for it."""


class Exchange(ExchangeState):
    """One request on its way."""

    __slots__ = ()

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
            self.dispatch(now)
        else:
            self.pending = []
            self.timeout_line = b""  # what the body takes is not left for the server
            if self.continue_awaited and not self._say_continue(now):
                return
            streams.more_of_upload(self)

    def _say_continue(self, now: float) -> bool:
        """Asks for the body, unless it is already plain that nobody could take it."""
        arm = self.picked or self.route.single
        if arm is not None and not arm.admitted:
            self.dispatch(now)
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
        self.finish("", monotonic())

    # -- receive the body

    def body_arrived(self) -> None:
        """More of the body is here, perhaps the rest of it."""
        streams.more_of_upload(self)

    def upload_blocked(self) -> None:
        """The model server takes the body more slowly than the client sends it."""
        if self.streaming:
            self.client.pause_reading(UPLOAD)

    def upload_unblocked(self) -> None:
        """The model server takes the body again."""
        if self.streaming and not self.relaying:
            self.client.resume_reading(UPLOAD)

    # -- pick

    def dispatch(self, now: float) -> None:
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
            self.attempt(now)
        else:
            self.refuse(Problems.NOT_READY)

    def sticky_key(self) -> bytes:
        """What decides which version its sender gets; b"" for nothing."""
        route = self.route
        if route.sticky_header:
            return self.special.get(route.sticky_header, b"")
        if route.sticky_cookie and self.seen & COOKIE:
            return headers.cookie_value(self.special[COOKIE], route.sticky_cookie)
        return b""

    # -- attempt and send

    def attempt(self, now: float, *, fresh: bool = False) -> None:
        """One try at the current arm, at the endpoint that seems best; on a fresh connection if one must not be old."""
        peers = self.arm.peers
        peer = peers[0] if len(peers) == 1 else choose(peers, now, self.failed_peer)
        if peer is None:
            self.refuse(Problems.NOT_READY)
            return
        client = self.client
        pool = peer.pool
        self.peer = peer
        if (
            pool.in_flight >= pool.busy
            and (now >= pool.roomy_until or pool.in_flight >= pool.limit)
            and pool.is_full(now, min(self.route.attempt_timeout, self.deadline - now))
        ):
            recovery.overloaded(self)
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
            self.send(connection)
            self.sent_at = monotonic()

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection was opened for this attempt."""
        self.connecting = None
        self.send(connection)

    def send(self, connection: UpstreamConnection) -> None:
        """Writes the request; where it streams, what has come of it so far."""
        self.connection = connection
        connection.exchange = self
        arm, (_, before, after, named) = self.arm, self.match
        if before == b"/invocations" and self.method == b"POST":
            head = self.peer.canonical
        else:
            head = self.peer.head(self.method, before + arm.upstream_model + after if named else before)
        if self.streaming:
            framing, body = streams.begin_upload(self)
        elif self.seen & (LENGTH | ENCODING):
            body = self.body
            length = len(body)
            framing = LENGTHS[length] if length < SHORT else ended_by_length(length)
        else:
            framing, body = b"\r\n", b""
        connection.transport.write(
            b"".join(
                [
                    head,
                    *(headers.without(self.lines, arm.replaced_headers) if arm.replaced_headers else self.lines),
                    self.forwarded,
                    self.timeout_line or self._remaining(),
                    b"x-request-id: ",
                    self.request_id,
                    b"\r\n",
                    framing,
                    body,
                ]
            )
        )

    def _remaining(self) -> bytes:
        """The rest of the deadline, for an attempt that does not have all of it."""
        return b"x-request-timeout: %dms\r\n" % max(1, int((self.deadline - monotonic()) * 1000))

    # -- response, relay

    def response_arrived(self, connection: UpstreamConnection) -> None:
        """The head of a response is complete, or more of its body is here, or it has ended."""
        if self.relaying:
            streams.relay_more(self, connection)
            return
        status = connection.status
        if status >= 400 and recovery.reconsider(self, connection, status):
            return
        self.code = status
        if not connection.complete or not self.whole:
            if not streams.is_worth_holding(self, connection):
                streams.relay_head(self, connection, status)
            return
        now = monotonic()
        body = connection.body[0] if len(connection.body) == 1 else b"".join(connection.body)
        if self.method == b"HEAD" or status in NO_BODY:
            framing, body = bodiless_framing(connection, status), b""
        else:
            length = len(body)
            framing = LENGTHS[length] if length < SHORT else ended_by_length(length)
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
        self.end_attempt(connection, now)
        self.client.transport.write(data)
        self.finish("", now)

    def download_blocked(self) -> None:
        """The client takes the response more slowly than it comes: that is not the server's silence."""
        streams.download_blocked(self)

    def download_unblocked(self) -> None:
        """The client takes the response again."""
        streams.download_unblocked(self)

    # -- retry, fall back

    def attempt_failed(self, connection: UpstreamConnection | None, problem: Problem) -> None:
        """The connection broke, the response is no HTTP, or the attempt's time is up."""
        recovery.attempt_failed(self, connection, problem)

    def connect_failed(self, problem: Problem) -> None:
        """No connection could be opened for this attempt."""
        self.connecting = None
        recovery.attempt_failed(self, None, problem)

    def rolled_back(self) -> None:
        """Its canary was rolled back while it waits for an answer: stable gives it one, where that is allowed."""
        recovery.rolled_back(self)

    def end_attempt(self, connection: UpstreamConnection | None, now: float, *, failed: bool = False) -> None:
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
            recovery.attempt_failed(self, self.connection, Problems.DEADLINE)
        elif now >= self.deadline:
            self.refuse(Problems.DEADLINE)

    def client_gone(self) -> None:
        """The client went away first: the model server need not go on."""
        if not self.finished:
            now = monotonic()
            if self.cancel_attempt():
                self.upstream_time += now - self.sent_at
            self.finish("abandoned", now)

    def refuse(self, problem: Problem, detail: str = "") -> None:
        """Answers with a problem instead of a model's response."""
        self.cancel_attempt()
        if self.relaying:
            self.client.abort()
            self.finish("abandoned", monotonic())
        elif not self.finished:
            self.fail(problem, detail)

    def cancel_attempt(self) -> bool:
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

    def fail(self, problem: Problem, detail: str = "", *, answered: bool = False) -> None:
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
        self.finish("", monotonic())

    def let_go_of_body(self) -> None:
        """The body is no longer held whole."""
        if self.held:
            self.client.worker.held -= self.held
            self.held = 0

    def finish(self, result: str, now: float) -> None:
        """The end of every request: it is recorded, and the client's connection goes on or closes."""
        self.finished = True
        client = self.client
        if self.pending is not None or self.held:
            self.pending = None
            self.let_go_of_body()
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
