"""Bodies that come in pieces: uploads to the model server, responses to the client.

Rules:
1. A body is held whole up to the model's `buffer` and the worker's budget; above that it streams, and whoever takes
   it slowly holds back who sends it.
2. A short response is held until it is whole where another attempt could still answer in its place.
3. A response whose head has left ends cleanly or breaks the client's connection; nothing in between.
4. What streams for long is bounded by each silence, not by its whole time.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from router.dataplane import judging, recovery
from router.dataplane.framing import CLOSES, NO_BODY, STAYS, bodiless_framing, chunk, ended_by_length
from router.dataplane.headers import ENCODING, LENGTH
from router.dataplane.problems import Problems, status_line
from router.dataplane.timers import NEVER

if TYPE_CHECKING:
    from router.dataplane.exchange import Exchange
    from router.dataplane.upstream import UpstreamConnection

HELD_RESPONSE = 64 * 1024

UPLOAD = 2
"""Why a client is not read from: its upload cannot be passed on. See `ClientConnection.pause_reading`."""


def more_of_upload(exchange: Exchange) -> None:
    """More of the body is here, perhaps the rest of it."""
    pending = exchange.pending
    if exchange.finished or pending is None or exchange.taken:
        return
    client = exchange.client
    exchange.taken = exchange.whole
    data = exchange.rest if exchange.whole else client.take_body()
    exchange.body_bytes += len(data)
    if exchange.body_bytes > exchange.route.max_body:
        exchange.refuse(Problems.TOO_LARGE)
    elif exchange.streaming:
        _pass_on(exchange, data)
    else:
        pending.append(data)
        exchange.held += len(data)
        client.worker.held += len(data)
        if exchange.whole:
            exchange.body = b"".join(pending)
            exchange.pending = None
            _renew_route(exchange)
            exchange.dispatch(monotonic())
        elif max(exchange.length, exchange.body_bytes) > exchange.route.buffer or client.worker.over_budget():
            exchange.streaming = True
            _renew_route(exchange)
            exchange.dispatch(monotonic())
        else:
            client.await_body()


def _pass_on(exchange: Exchange, data: bytes) -> None:
    """Passes a piece of a body on that is too large to be held."""
    if exchange.connection is None:
        if data and exchange.pending is not None:
            exchange.pending.append(data)
            exchange.client.pause_reading(UPLOAD)
        return
    framed = _framed(exchange, data)
    if framed:
        exchange.connection.transport.write(framed)
    if not exchange.whole:
        exchange.client.await_body()


def _framed(exchange: Exchange, data: bytes) -> bytes:
    """`data` as the next piece of a streamed upload; the last piece ends it."""
    if not exchange.seen & ENCODING:
        return data
    return chunk(data, last=exchange.whole)


def begin_upload(exchange: Exchange) -> tuple[bytes, bytes]:
    """The framing of a streamed upload, and what has come of it so far."""
    data = b"".join(exchange.pending or ())
    exchange.pending = []
    exchange.let_go_of_body()
    exchange.client.resume_reading(UPLOAD)
    if not exchange.whole:
        exchange.client.await_body()
    if exchange.seen & ENCODING:
        return b"transfer-encoding: chunked\r\n\r\n", _framed(exchange, data)
    return ended_by_length(exchange.length), data


def _renew_route(exchange: Exchange) -> None:
    """The body took a while to come: the weights in force now decide, not those when its head came."""
    exchange.route = exchange.client.table.get(exchange.route.model) or exchange.route


def is_worth_holding(exchange: Exchange, connection: UpstreamConnection) -> bool:
    """Whether to wait for the rest: a short response that breaks off can still be answered by another attempt."""
    length = connection.length
    return (
        exchange.route.idempotent
        and exchange.whole
        and not exchange.streaming
        and length.isdigit()
        and int(length) <= HELD_RESPONSE
    )


def relay_head(exchange: Exchange, connection: UpstreamConnection, status: int) -> None:
    """The response comes in pieces: its head leaves now, the rest as it comes."""
    exchange.relaying = True
    client = exchange.client
    if not exchange.whole:
        # An answer before the end of the upload: the rest of the upload is not wanted.
        exchange.keep_alive = False
        client.pause_reading(UPLOAD)
    if exchange.method == b"HEAD" or status in NO_BODY:
        framing = bodiless_framing(connection, status)
    elif connection.seen & LENGTH and not connection.seen & ENCODING:
        framing = b"content-length: %b\r\n\r\n" % connection.length
    elif exchange.version_11:
        exchange.chunked_out = True
        framing = b"transfer-encoding: chunked\r\n\r\n"
    else:
        exchange.keep_alive = False
        framing = b"\r\n"
    client.transport.write(
        b"".join(
            [
                status_line(status),
                *connection.lines[: connection.head_lines],
                exchange.arm.version_line,
                b"x-request-id: ",
                exchange.request_id,
                STAYS if exchange.keep_alive else CLOSES,
                framing,
            ]
        )
    )
    relay_more(exchange, connection)


def relay_more(exchange: Exchange, connection: UpstreamConnection) -> None:
    """More of the body has come, perhaps its end."""
    data = connection.take_body()
    now = monotonic()
    if exchange.suspicious is not None and _shows_exception(exchange, data):
        recovery.break_off(exchange, connection, now)
        return
    complete = connection.complete
    if complete:
        # Before the write: it may find the client slow, which must not pause a connection given back.
        exchange.end_attempt(connection, now)
    if exchange.chunked_out:
        data = chunk(data, last=complete)
    if complete:
        exchange.client.transport.write(data)
        exchange.finish("", now)
        return
    if exchange.client.blocked_since == NEVER:
        if not connection.seen & LENGTH:
            # Nobody knows how long a stream goes on: the deadline bounds each silence instead of the whole.
            exchange.deadline = now + exchange.route.timeout
        exchange.attempt_deadline = exchange.deadline
        exchange.client.watch(exchange.deadline)
    if data:
        exchange.client.transport.write(data)


def _shows_exception(exchange: Exchange, data: bytes) -> bool:
    """Whether a rejection too long to be held turns out to be a model's exception."""
    found, exchange.suspicious = judging.scan(exchange.suspicious or b"", data)
    return found


def download_blocked(exchange: Exchange) -> None:
    """The client takes the response more slowly than it comes: that is not the server's silence."""
    if exchange.connection is not None and exchange.relaying:
        exchange.connection.transport.pause_reading()
        exchange.attempt_deadline = exchange.deadline = NEVER


def download_unblocked(exchange: Exchange) -> None:
    """The client takes the response again."""
    if exchange.connection is not None and exchange.relaying:
        exchange.connection.transport.resume_reading()
        exchange.attempt_deadline = exchange.deadline = monotonic() + exchange.route.timeout
        exchange.client.watch(exchange.deadline)
