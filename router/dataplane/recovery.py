"""What follows an attempt that failed, or an answer that is not for the client.

Rules:
1. An attempt may be followed by another only while nothing of a response went to the client, the body is held
   whole, the model is idempotent and the deadline has not passed; where nothing was sent, any model will do.
2. Retries stay within the picked version and within a budget; there is at most one fallback, to stable, and it is
   bounded by what stable has under way.
3. A canary's failure is told the moment it is known, though stable may still answer in its place.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from router.core.outcome import FAILURE, REJECTION
from router.dataplane.judging import HELD_EXCEPTION, has_key, reports_exception
from router.dataplane.problems import Problem, Problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.dataplane.exchange import Exchange
    from router.dataplane.upstream import UpstreamConnection

RETRIED = frozenset({502, 503, 504})
"""A server's own failures worth another endpoint; a 500 is the model's and would come again."""

SHOWN_TO_STABLE = frozenset({400, 415, 422})
"""A canary's rejections that stable is asked about, too."""

ROLLBACK = "rollback"
"""The reason of a fallback that is nobody's failure."""

MAX_ATTEMPTS = 3

_REASONS = {
    Problems.REFUSED.name: "connect",
    Problems.TLS.name: "connect",
    Problems.BROKE.name: "broken",
    Problems.GARBLED.name: "broken",
    Problems.DEADLINE.name: "timeout",
}


def reconsider(exchange: Exchange, connection: UpstreamConnection, status: int) -> bool:
    """Whether a response of 400 or more is not what the client gets, or cannot be told yet."""
    if status == 400 and connection.is_json():
        held = b"".join(connection.body)
        if has_key(held) or (connection.complete and reports_exception(held)):
            exchange.end_attempt(connection, monotonic(), failed=True)
            _go_on_or_fail(exchange, "exception", Problems.EXCEPTION, retry=False, answered=True)
            return True
        if not connection.complete:
            if len(held) <= HELD_EXCEPTION:
                return True
            exchange.suspicious = b""
    if status < 500 and status not in SHOWN_TO_STABLE:
        return False
    step = _next_step(exchange, retry=status in RETRIED)
    if step is None:
        return False
    exchange.end_attempt(connection, monotonic(), failed=status >= 500)
    step(exchange, "rejection" if status < 500 else f"status_{status}")
    return True


def attempt_failed(exchange: Exchange, connection: UpstreamConnection | None, problem: Problem) -> None:
    """The connection broke, the response is no HTTP, or the attempt's time is up."""
    if exchange.finished:
        return
    now = monotonic()
    if exchange.relaying:
        break_off(exchange, connection, now)
        return
    stale = (
        problem is Problems.BROKE
        and connection is not None
        and connection.used
        and not connection.head_bytes
        and not connection.head_done
    )
    exchange.end_attempt(connection, now, failed=not stale)
    if stale and connection is not None:
        exchange.peer.pool.closed_idle(exchange.sent_at - connection.idle_since)
    if _may_start_over(exchange, now, stale=stale, unsent=connection is None):
        # Closed while it was idle, or nothing was sent: no retry in the budget's sense.
        exchange.failed_peer = exchange.peer
        exchange.attempt(now, fresh=True)
    else:
        _go_on_or_fail(exchange, _REASONS.get(problem.name, "broken"), problem, retry=True)


def break_off(exchange: Exchange, connection: UpstreamConnection | None, now: float) -> None:
    """A response that cannot be completed ends in a broken connection, never in a clean end."""
    exchange.end_attempt(connection, now, failed=True)
    exchange.client.abort()
    exchange.finish("failure", now)


def _may_start_over(exchange: Exchange, now: float, *, stale: bool, unsent: bool) -> bool:
    """Whether the same attempt may be made once more, elsewhere if it can be.

    Args:
        now: the time.
        stale: a reused connection died before anything of a response came.
        unsent: nothing was sent at all; then this is safe for every model, but pointless at the same endpoint.
    """
    if unsent:
        return len(exchange.arm.peers) > 1 and exchange.attempts < MAX_ATTEMPTS and now < exchange.deadline
    return stale and _may_try_again(exchange)


def _may_try_again(exchange: Exchange) -> bool:
    return (
        exchange.route.idempotent
        and not exchange.streaming
        and not exchange.relaying
        and exchange.attempts < MAX_ATTEMPTS
        and monotonic() < exchange.deadline
    )


def _may_fall_back(exchange: Exchange) -> bool:
    route = exchange.route
    return (
        route.fallback
        and not exchange.fallback_reason
        and exchange.arm is not route.stable
        and not exchange.overridden
        and route.stable.admitted
        and not exchange.streaming
        and not exchange.relaying
        and monotonic() < exchange.deadline
        and route.stable.load.requests < exchange.client.worker.limits.in_flight_per_endpoint
    )


def _next_step(exchange: Exchange, *, retry: bool) -> Callable[[Exchange, str], None] | None:
    """What may follow a failed attempt: a retry within the version, else the fallback, else nothing."""
    to_stable = _may_fall_back(exchange)
    if (
        retry
        and not exchange.retries
        and _may_try_again(exchange)
        and (len(exchange.arm.peers) > 1 or not to_stable)
        and exchange.arm.load.may_retry(monotonic())
    ):
        return _retry
    return _fall_back if to_stable else None


def _go_on_or_fail(exchange: Exchange, reason: str, problem: Problem, *, retry: bool, answered: bool = False) -> None:
    step = _next_step(exchange, retry=retry)
    if step is None:
        exchange.fail(problem, answered=answered)
    else:
        step(exchange, reason)


def _retry(exchange: Exchange, _reason: str) -> None:
    """Another attempt within the version, at another endpoint where there is one."""
    exchange.retries += 1
    exchange.failed_peer = exchange.peer
    exchange.timeout_line = b""
    exchange.attempt(monotonic())


def _fall_back(exchange: Exchange, reason: str) -> None:
    """One attempt at stable, which answers in the canary's place."""
    if reason != ROLLBACK:
        kind = REJECTION if reason == "rejection" else FAILURE
        exchange.client.worker.witness.failed(exchange, kind, monotonic())
    exchange.fallback_reason = reason
    exchange.failed_peer = None
    exchange.timeout_line = b""
    stable = exchange.route.stable
    exchange.arm.load.requests -= 1
    stable.load.requests += 1
    exchange.arm = stable
    exchange.attempt(monotonic())


def overloaded(exchange: Exchange) -> None:
    """The endpoint has too much to do already."""
    if _may_fall_back(exchange):
        _fall_back(exchange, "overloaded")
    else:
        exchange.fail(Problems.OVERLOADED)


def rolled_back(exchange: Exchange) -> None:
    """Its canary was rolled back while it waits for an answer: stable gives it one, where that is allowed."""
    if _may_fall_back(exchange) and exchange.cancel_attempt():
        _fall_back(exchange, ROLLBACK)
