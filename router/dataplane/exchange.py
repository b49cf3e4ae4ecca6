"""One request's life, top to bottom.

    arrive → match → admit → receive the body → pick → attempt → send → relay → finish
                                                  ↑        │
                                                  └ retry, fall back

Rules:
1. A version is picked once, when the request can be sent; the weights in force then travel with its outcome.
2. An attempt may be followed by another only while nothing of a response went to the client, the body is held
   whole, the model is idempotent and the deadline has not passed.
3. Retries stay within the picked version and within a budget; there is at most one fallback, to stable, and it is
   bounded by what stable has under way.
4. What the client sees is either a response relayed to its clean end, a problem, or an aborted connection.
5. Every request ends exactly once, in `_finish`, and is recorded there.
6. Nothing here waits: each step is a call from the client's or the server's connection, or from the wheel.
"""

from __future__ import annotations

from random import random
from time import monotonic
from typing import TYPE_CHECKING

from router.core.split import SLOTS, slot_of
from router.dataplane import headers
from router.dataplane.headers import (
    CONNECTION,
    COOKIE,
    DEADLINE,
    ENCODING,
    EXPECT,
    LENGTH,
    OVERRIDE,
    UPGRADE,
    VIA,
)
from router.dataplane.problems import Problem, Problems, render, status_line
from router.dataplane.routes import BadPath, LiveArm, Match, Peer, UnknownModel
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from router.dataplane.protocol import ClientConnection
    from router.dataplane.routes import Route
    from router.dataplane.upstream import UpstreamConnection

UNUSUAL = CONNECTION | EXPECT | UPGRADE | OVERRIDE | DEADLINE | VIA
"""Request headers that send a request through `_admit_unusual`."""

RETRIED = frozenset({502, 503, 504})
"""A server's own failures worth another endpoint; a 500 is the model's and would come again."""

SHOWN_TO_STABLE = frozenset({400, 415, 422})
"""A canary's rejections that stable is asked about, too."""

HELD_EXCEPTION = 64 * 1024
MAX_ATTEMPTS = 3
CLIENT_GONE = 499
"""The code recorded where the client saw none; nginx's, since RFC 9110 has none for it."""

USUAL_CONNECTION = frozenset({b"keep-alive", b"close"})
NO_BODY = frozenset({204, 304})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Exchange:
    """One request on its way. The class holds the defaults: an instance sets only what it needs to."""

    route: Route
    match: Match
    arm: LiveArm
    picked: LiveArm | None = None
    peer: Peer
    connection: UpstreamConnection | None = None
    connecting: asyncio.Task[None] | None = None

    fault: Problem | None = None
    request_id: bytes
    special: Mapping[int | bytes, bytes] = {}
    forwarded: bytes = b""
    version_11 = True
    length = 0
    body: bytes = b""
    rest: bytes = b""
    body_bytes = 0
    held = 0
    pending: list[bytes] | None = None
    whole = False
    streaming = False
    relaying = False
    chunked_out = False
    keep_alive = True
    overridden = False
    dispatched = False
    failed_peer: Peer | None = None
    fallback_reason = ""
    retries = 0
    retry_reason = ""
    attempts = 0
    code = 0
    deadline = NEVER
    attempt_deadline = NEVER
    sent_at = 0.0
    upstream_time = 0.0
    timeout_line: bytes = b""
    finished = False

    def __init__(self, client: ClientConnection, method: bytes, target: bytes, lines: list[bytes], seen: int) -> None:
        self.client = client
        self.method = method
        self.target = target
        self.lines = lines
        self.seen = seen

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return self.length > 0 or bool(self.seen & ENCODING)

    # -- arrive, match, admit

    def begin(self) -> None:
        """Its turn has come on the client's connection: the head is complete, the body perhaps."""
        self.start = monotonic()
        if self.fault is not None:
            self.refuse(self.fault)
            return
        match = self.client.table.exact.get(self.target) or self._match()
        if match is None:
            return
        self.match = match
        self.route = route = match.route
        self.deadline = self.start + route.timeout
        self.timeout_line = route.timeout_line
        if self.seen & UNUSUAL and not self._admit_unusual():
            return
        if self.whole:
            self.body = self.rest
            if len(self.body) > route.max_body:
                self.refuse(Problems.TOO_LARGE)
                return
            self._dispatch()
        else:
            self._admit_body()

    def _match(self) -> Match | None:
        target = self.target
        if not target.startswith(b"/"):
            target = origin_form(target)
        try:
            match = self.client.table.match(target)
        except UnknownModel:
            self.refuse(Problems.UNKNOWN_MODEL)
            return None
        except BadPath:
            self.refuse(Problems.BAD_PATH)
            return None
        if match is None:
            self._own_paths(target)
        return match

    def _own_paths(self, target: bytes) -> None:
        """The few paths that the router answers itself."""
        path = target.partition(b"?")[0]
        if path not in (b"/v2/health/live", b"/v2/health/ready"):
            self.refuse(Problems.UNKNOWN_PATH)
        elif self.method not in (b"GET", b"HEAD"):
            self.refuse(Problems.WRONG_METHOD)
        elif path == b"/v2/health/live":
            self._answer(b'{"live":true}')
        elif self.client.worker.ready:
            self._answer(b'{"ready":true}')
        else:
            self.refuse(Problems.NOT_READY)

    def _admit_unusual(self) -> bool:
        """What only few requests carry; False where one of these ends the request."""
        seen, route = self.seen, self.route
        if seen & UPGRADE and self.special[UPGRADE].lower() != b"h2c":
            self.refuse(Problems.NO_UPGRADE)
            return False
        if seen & VIA and self.client.worker.came_through_here(self.special[VIA]):
            self.refuse(Problems.LOOP)
            return False
        if seen & CONNECTION and self.special[CONNECTION].lower() not in USUAL_CONNECTION:
            names = headers.connection_names(self.special[CONNECTION])
            if names is None:
                self.refuse(Problems.MALFORMED)
                return False
            self.lines = headers.without(self.lines, names)
        if seen & DEADLINE:
            seconds = headers.duration(self.special[DEADLINE])
            if seconds is None:
                self.refuse(Problems.BAD_TIMEOUT, "Write x-request-timeout as 500ms or 2s.")
                return False
            if seconds < route.timeout:
                self.deadline = self.start + seconds
                self.timeout_line = b""
        if seen & OVERRIDE and route.allow_override:
            arm = route.by_version.get(self.special[OVERRIDE])
            if arm is None:
                self.refuse(Problems.UNKNOWN_VERSION)
                return False
            if arm.state == "rolled_back":
                self.refuse(Problems.ROLLED_BACK)
                return False
            self.overridden = True
            self.picked = arm
        if seen & EXPECT:
            if self.special[EXPECT].lower() != b"100-continue":
                self.refuse(Problems.EXPECTATION)
                return False
            if self.length > route.max_body:
                self.refuse(Problems.TOO_LARGE)
                return False
            if not self.whole and self.version_11:
                self.client.transport.write(CONTINUE)
        return True

    # -- receive the body

    def _admit_body(self) -> None:
        if self.length > self.route.max_body:
            self.refuse(Problems.TOO_LARGE)
            return
        self.pending = []
        self.body_arrived()

    def body_arrived(self) -> None:
        """More of the body is here, perhaps the rest of it."""
        if self.finished or self.pending is None:
            return
        client = self.client
        data = self.rest if self.whole else client.take_body()
        self.body_bytes += len(data)
        if self.body_bytes > self.route.max_body:
            self.refuse(Problems.TOO_LARGE)
            return
        if self.streaming:
            self._upload(data)
            return
        if data:
            self.pending.append(data)
            client.worker.held += len(data)
            self.held += len(data)
        if self.whole:
            self.body = b"".join(self.pending)
            self.pending = None
            self._dispatch()
        elif max(self.length, self.body_bytes) > self.route.buffer or client.worker.over_budget():
            self.streaming = True
            self._dispatch()
        else:
            client.await_body()

    def _upload(self, data: bytes) -> None:
        """Passes a piece of a body on that is too large to be held."""
        connection = self.connection
        if connection is None or self.pending:
            if data and self.pending is not None:
                self.pending.append(data)
                self.client.pause_reading()
            return
        if self.seen & ENCODING:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (LAST_CHUNK if self.whole else b"")
        if data:
            connection.transport.write(data)
        if not self.whole:
            self.client.await_body()

    def upload_blocked(self) -> None:
        """The model server takes the body more slowly than the client sends it."""
        if self.streaming:
            self.client.pause_reading()

    def upload_unblocked(self) -> None:
        """The model server takes the body again."""
        if self.streaming:
            self.client.resume_reading()

    # -- pick

    def _dispatch(self) -> None:
        """Everything is known that decides which version gets the request."""
        arm = self.picked or self._pick()
        self.picked = arm
        self.dispatched = True
        arm.load.requests += 1
        arm.load.started += 1
        self.arm = arm
        if not arm.admitted:
            self.refuse(Problems.NOT_READY)
            return
        self._attempt()

    def _pick(self) -> LiveArm:
        route = self.route
        if route.single is not None:
            return route.single
        key = b""
        if route.sticky_header:
            key = self.special.get(route.sticky_header, b"")
        elif route.sticky_cookie and self.seen & COOKIE:
            key = headers.cookie_value(self.special[COOKIE], route.sticky_cookie)
        if key:
            return route.arm_at(slot_of(route.name, key))
        return route.arm_at(int(random() * SLOTS))  # noqa: S311 - a draw, not a secret

    # -- attempt and send

    def _attempt(self) -> None:
        """One try at the current arm, at the endpoint that seems best."""
        now = monotonic()
        arm = self.arm
        peer = arm.peers[0] if len(arm.peers) == 1 else choose(arm.peers, now, self.failed_peer)
        if peer is None:
            self.refuse(Problems.NOT_READY)
            return
        pool = peer.pool
        if pool.in_flight >= self.client.worker.limits.in_flight_per_endpoint:
            self._overloaded(peer)
            return
        pool.in_flight += 1
        self.peer = peer
        self.attempts += 1
        self.sent_at = now
        self.attempt_deadline = min(self.deadline, now + self.route.attempt_timeout)
        self.client.watch(self.attempt_deadline)
        connection = pool.take(now)
        if connection is None:
            self.connecting = pool.connect(self)
        else:
            self._send(connection)

    def connected(self, connection: UpstreamConnection) -> None:
        """A connection was opened for this attempt."""
        self.connecting = None
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        connection.exchange = self
        match, arm = self.match, self.arm
        target = match.before + arm.upstream_model + match.after if match.named else match.before
        if match.after and not match.named:
            target += match.after
        lines = self.lines if not arm.replaced_headers else headers.without(self.lines, arm.replaced_headers)
        if self.streaming:
            connection.transport.write(self._head(target, lines, self._stream_framing()) + self._stream_start())
            if not self.whole:
                self.client.resume_reading()
                self.client.await_body()
        elif self.body or self.seen & (LENGTH | ENCODING):
            framing = b"content-length: %d\r\n\r\n" % len(self.body)
            connection.transport.write(self._head(target, lines, framing) + self.body)
        else:
            connection.transport.write(self._head(target, lines, b"\r\n"))

    def _head(self, target: bytes, lines: list[bytes], framing: bytes) -> bytes:
        return b"".join(
            (
                self.peer.head(self.method, target),
                *lines,
                self.forwarded,
                b"x-request-id: ",
                self.request_id,
                b"\r\n",
                self.timeout_line or self._remaining(),
                framing,
            )
        )

    def _remaining(self) -> bytes:
        return b"x-request-timeout: %dms\r\n" % max(1, int((self.deadline - monotonic()) * 1000))

    def _stream_framing(self) -> bytes:
        if self.seen & ENCODING:
            return b"transfer-encoding: chunked\r\n\r\n"
        return b"content-length: %d\r\n\r\n" % self.length

    def _stream_start(self) -> bytes:
        """What has come of the body so far, framed for the model server."""
        data = b"".join(self.pending or ())
        self.pending = []
        self._let_go_of_body()
        if not self.seen & ENCODING:
            return data
        return (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (LAST_CHUNK if self.whole else b"")

    # -- relay

    def response_arrived(self, connection: UpstreamConnection) -> None:
        """The head of a response is complete, or more of its body is here, or it has ended."""
        if self.relaying:
            self._relay_more(connection)
            return
        status = connection.status
        if status >= 400 and self._reconsider(connection, status):
            return
        self.code = status
        if connection.complete and not (self.streaming and not self.whole):
            self._relay_whole(connection, status)
        else:
            self._relay_head(connection, status)

    def _relay_whole(self, connection: UpstreamConnection, status: int) -> None:
        """The usual case: the whole response is here and leaves with one write."""
        body = connection.take_body()
        if self.method == b"HEAD":
            framing = b"content-length: %b\r\n\r\n" % connection.length if connection.length else b"\r\n"
        elif status in NO_BODY:
            framing = b"\r\n"
        else:
            framing = b"content-length: %d\r\n\r\n" % len(body)
        data = b"".join(
            (
                status_line(status),
                *connection.lines,
                self.arm.version_line,
                b"x-request-id: ",
                self.request_id,
                b"\r\n" if self.keep_alive else b"\r\nconnection: close\r\n",
                framing,
                body,
            )
        )
        self._end_attempt(connection)
        self.client.transport.write(data)
        self._finish("")

    def _relay_head(self, connection: UpstreamConnection, status: int) -> None:
        """The response comes in pieces: its head leaves now, the rest as it comes."""
        self.relaying = True
        client = self.client
        if self.streaming and not self.whole:
            # An answer before the end of the upload: the rest of the upload is not wanted.
            self.keep_alive = False
            client.pause_reading()
        if connection.seen & LENGTH and not connection.seen & ENCODING:
            framing = b"content-length: %b\r\n" % connection.length
        elif self.version_11:
            self.chunked_out = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
            framing = b""
        client.transport.write(
            b"".join(
                (
                    status_line(status),
                    *connection.lines[: connection.head_lines],
                    self.arm.version_line,
                    b"x-request-id: ",
                    self.request_id,
                    b"\r\n" if self.keep_alive else b"\r\nconnection: close\r\n",
                    framing,
                    b"\r\n",
                )
            )
        )
        self._relay_more(connection)

    def _relay_more(self, connection: UpstreamConnection) -> None:
        data = connection.take_body()
        if self.chunked_out:
            data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (LAST_CHUNK if connection.complete else b"")
        if data:
            self.client.transport.write(data)
        if connection.complete:
            self._end_attempt(connection)
            self._finish("")
        elif not self.finished:
            # Once a response streams, the deadline bounds each silence instead of the whole.
            self.attempt_deadline = self.deadline = monotonic() + self.route.timeout
            self.client.watch(self.deadline)

    def download_blocked(self) -> None:
        """The client takes the response more slowly than it comes."""
        if self.connection is not None:
            self.connection.transport.pause_reading()

    def download_unblocked(self) -> None:
        """The client takes the response again."""
        if self.connection is not None:
            self.connection.transport.resume_reading()

    # -- retry, fall back

    def _reconsider(self, connection: UpstreamConnection, status: int) -> bool:
        """Whether a response of 400 or more is not what the client gets, or cannot be told yet."""
        if status == 400 and b"json" in connection.content_type.lower():
            held = b"".join(connection.body)
            if b'"stack_trace"' in held:
                self._end_attempt(connection, failed=True)
                self._go_on_or_fail("exception", Problems.EXCEPTION, retry=False, answered=True)
                return True
            if not connection.complete and len(held) <= HELD_EXCEPTION:
                return True
        if status in RETRIED or status >= 500:
            step = self._next_step(retry=status in RETRIED)
        else:
            step = self._next_step(retry=False) if status in SHOWN_TO_STABLE else None
        if step is None:
            return False
        self._end_attempt(connection, failed=status >= 500)
        step("rejection" if status < 500 else f"status_{status}")
        return True

    def attempt_failed(self, connection: UpstreamConnection | None, problem: Problem) -> None:
        """The connection broke, the response is no HTTP, or the attempt's time is up."""
        if self.finished:
            return
        if self.relaying:
            self._end_attempt(connection, failed=True)
            self._abort_client("failure")
            return
        stale = connection is not None and connection.used and not connection.head_bytes and problem is Problems.BROKE
        self._end_attempt(connection, failed=not stale)
        if stale and self._may_try_again():
            # The server closed it while it was idle: no fault of the version, and no retry in the budget's sense.
            self._attempt()
        else:
            self._go_on_or_fail(_REASONS.get(problem.name, "broken"), problem, retry=True)

    def connect_failed(self, problem: Problem) -> None:
        """No connection could be opened for this attempt."""
        self.connecting = None
        self.attempt_failed(None, problem)

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
            and self._may_try_again()
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
            and self.arm.load.budget.take(monotonic(), self.arm.load.started)
        ):
            return self._retry
        return self._fall_back if may_fall_back else None

    def _go_on_or_fail(self, reason: str, problem: Problem, *, retry: bool, answered: bool = False) -> None:
        step = self._next_step(retry=retry)
        if step is None:
            self._fail(problem, answered=answered)
        else:
            step(reason)

    def _retry(self, reason: str) -> None:
        """Another attempt within the version, at another endpoint where there is one."""
        self.retries += 1
        self.retry_reason = reason
        self.failed_peer = self.peer
        self.timeout_line = b""
        self._attempt()

    def _fall_back(self, reason: str) -> None:
        """One attempt at stable, which answers in the canary's place."""
        self.fallback_reason = reason
        self.failed_peer = None
        self.timeout_line = b""
        stable = self.route.stable
        self.arm.load.requests -= 1
        stable.load.requests += 1
        self.arm = stable
        self._attempt()

    def _end_attempt(self, connection: UpstreamConnection | None, *, failed: bool = False) -> None:
        """Gives the connection back, or closes it where the response did not end cleanly."""
        now = monotonic()
        self.upstream_time += now - self.sent_at
        self.attempt_deadline = NEVER
        pool = self.peer.pool
        pool.in_flight -= 1
        if failed or (connection is not None and connection.status >= 500):
            pool.health.failed(now)
        elif pool.health.failures:
            pool.health.succeeded()
        self.connection = None
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if connection is not None:
            if connection.complete:
                connection.release(now)
            else:
                connection.discard()

    # -- finish

    def next_deadline(self) -> float:
        """When `expire` has to be called."""
        return min(self.attempt_deadline, self.deadline)

    def expire(self, now: float) -> None:
        """The attempt's time or the request's is up."""
        if not self.whole and not self.relaying and (self.pending is None or not self.client.reading_paused):
            self.refuse(Problems.REQUEST_TIMEOUT)  # the client is what is slow
        elif self.connection is not None or self.connecting is not None:
            self.attempt_failed(self.connection, Problems.DEADLINE)
        elif now >= self.deadline:
            self.refuse(Problems.DEADLINE)

    def client_gone(self) -> None:
        """The client went away first: the model server need not go on."""
        if not self.finished:
            if self.connection is not None or self.connecting is not None:
                self.upstream_time += monotonic() - self.sent_at
                self._cancel_attempt()
            self._finish("abandoned")

    def refuse(self, problem: Problem, detail: str = "") -> None:
        """Answers with a problem instead of a model's response."""
        if self.connection is not None or self.connecting is not None:
            self._cancel_attempt()
        self._fail(problem, detail)

    def _cancel_attempt(self) -> None:
        self.peer.pool.in_flight -= 1
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.connection is not None:
            self.connection.discard()
            self.connection = None

    def _overloaded(self, peer: Peer) -> None:
        self.peer = peer
        if self._may_fall_back():
            self._fall_back("overloaded")
        else:
            self._fail(Problems.OVERLOADED)

    def _fail(self, problem: Problem, detail: str = "", *, answered: bool = False) -> None:
        """Sends a problem; `answered` where a version did answer, but its answer must not leave the router."""
        if not self.whole:
            self.keep_alive = False
        extra = self.arm.version_line if answered else b""
        if not self.keep_alive:
            extra += b"connection: close\r\n"
        route = getattr(self, "route", None)
        self.code = problem.status
        self.client.transport.write(
            render(
                problem,
                detail,
                model=route.model if route else "",
                request_id=self.request_id,
                extra=extra,
                head_only=self.method == b"HEAD",
            )
        )
        self._finish("")

    def _answer(self, body: bytes) -> None:
        """A 200 of the router's own."""
        self.client.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b"
            % (
                self.request_id,
                b"" if self.keep_alive else b"connection: close\r\n",
                len(body),
                b"" if self.method == b"HEAD" else body,
            )
        )
        self._finish("")

    def _abort_client(self, result: str) -> None:
        """A response that cannot be completed ends in a broken connection, never in a clean end."""
        self.keep_alive = False
        self._finish(result)
        self.client.abort()

    def _let_go_of_body(self) -> None:
        if self.held:
            self.client.worker.held -= self.held
            self.held = 0

    def _finish(self, result: str) -> None:
        """The end of every request: it is recorded, and the client's connection goes on or closes."""
        self.finished = True
        self.pending = None
        self._let_go_of_body()
        picked = self.picked
        client = self.client
        if picked is not None and self.dispatched:
            self.arm.load.requests -= 1
            now = monotonic()
            code = self.code
            if not result:
                if self.fallback_reason and code < 500:
                    result = "fallback"
                else:
                    result = "ok" if code < 400 else "rejection" if code < 500 else "failure"
            client.worker.records.append(
                (
                    picked.key,
                    CLIENT_GONE if result == "abandoned" else code,
                    result,
                    self.method == b"POST" and not self.overridden,
                    now - self.start,
                    self.upstream_time,
                    self.fallback_reason,
                    self.retries,
                )
            )
            if result in ("failure", "fallback"):
                client.worker.flush_soon()
        if result != "abandoned":
            client.exchange_done(self)


def origin_form(target: bytes) -> bytes:
    """The path and query of a target in absolute form; `target` itself where it has another form."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    _, slash, path = rest.partition(b"/")
    return slash + path if slash else b"/"


_REASONS = {
    Problems.REFUSED.name: "connect",
    Problems.TLS.name: "connect",
    Problems.BROKE.name: "broken",
    Problems.GARBLED.name: "broken",
    Problems.DEADLINE.name: "timeout",
}


def choose(peers: tuple[Peer, ...], now: float, failed: Peer | None) -> Peer | None:
    """Of two endpoints drawn at random the one with less under way; ejected ones only where no other is left."""
    good = [
        peer for peer in peers if peer.healthy and peer is not failed and peer.pool.health.ejected_until <= now
    ] or [peer for peer in peers if peer is not failed]
    if len(good) < 2:
        return good[0] if good else failed
    first = int(random() * len(good))  # noqa: S311 - a draw, not a secret
    second = int(random() * (len(good) - 1))  # noqa: S311 - a draw, not a secret
    if second >= first:
        second += 1
    one, other = good[first], good[second]
    return one if one.pool.in_flight <= other.pool.in_flight else other
