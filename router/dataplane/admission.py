"""Whether a request may go on, and where to: what is decided from its head alone.

Rules:
1. Either a request gets a match, or it is refused with one problem; nothing was sent anywhere yet.
2. The usual request is admitted with one look-up in `exchange.py`; what comes here is the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.dataplane import headers
from router.dataplane.headers import CONNECTION, DEADLINE, EXPECT, OVERRIDE, UPGRADE, VIA
from router.dataplane.problems import Problem, Problems
from router.dataplane.routes import BadEscape, BadPath, Match, UnknownModel

if TYPE_CHECKING:
    from router.dataplane.exchange import Exchange
    from router.dataplane.routes import LiveArm, Table

UNUSUAL = CONNECTION | EXPECT | UPGRADE | OVERRIDE | DEADLINE | VIA
"""Request headers that send a request through `check_unusual`."""


class Refused(Exception):  # noqa: N818 - a verdict on a request, not an error of the program
    """The request is answered with `problem`."""

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__(problem.name)
        self.problem = problem
        self.detail = detail


def find(exchange: Exchange, table: Table) -> Match | None:
    """Where a target leads that is not a canonical one; None for a path of the router's own.

    A target in absolute form becomes one in origin form, and its authority wins over Host.

    Raises:
        Refused: no such model or path, or the path could leave its model's prefix.
    """
    target = exchange.target
    if not target.startswith(b"/"):
        authority, target = origin_form(target)
        exchange.target = target
        exchange.forwarded = exchange.client.forward_for(exchange.special, authority)
    try:
        match = table.match(target)
    except UnknownModel:
        raise Refused(Problems.UNKNOWN_MODEL) from None
    except BadEscape:
        exchange.keep_alive = False
        raise Refused(Problems.MALFORMED, "The path is not escaped as a path has to be.") from None
    except BadPath:
        raise Refused(Problems.BAD_PATH) from None
    if match is None and target.partition(b"?")[0] not in OWN_PATHS:
        raise Refused(Problems.UNKNOWN_PATH)
    return match


OWN_PATHS = {b"/v2/health/live": b'{"live":true}', b"/v2/health/ready": b'{"ready":true}'}
"""What the router answers itself on the data port."""


def own_answer(method: bytes, target: bytes, *, ready: bool) -> bytes:
    """The body of the router's own answer.

    Raises:
        Refused: the method does not fit, or the router is not ready.
    """
    path = target.partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        raise Refused(Problems.WRONG_METHOD)
    if path == b"/v2/health/ready" and not ready:
        raise Refused(Problems.NOT_READY)
    return OWN_PATHS[path]


def check_unusual(exchange: Exchange) -> None:
    """What only few requests carry: upgrades, overrides, deadlines, listed headers, expectations.

    Raises:
        Refused: one of these cannot be met.
    """
    seen, special, route = exchange.seen, exchange.special, exchange.route
    if seen & UPGRADE and special[UPGRADE].lower() != b"h2c":
        raise Refused(Problems.NO_UPGRADE)
    if seen & VIA and exchange.client.worker.came_through_here(special[VIA]):
        raise Refused(Problems.LOOP)
    if seen & CONNECTION and special[CONNECTION].lower() not in headers.USUAL_CONNECTION:
        names = headers.connection_names(special[CONNECTION])
        if names is None:
            raise Refused(Problems.MALFORMED)
        exchange.lines = headers.without(exchange.lines, names)
    if seen & DEADLINE:
        seconds = headers.duration(special[DEADLINE])
        if seconds is None:
            raise Refused(Problems.BAD_TIMEOUT, "Write x-request-timeout as 500ms or 2s.")
        if seconds < route.timeout:
            exchange.deadline = exchange.start + seconds
            exchange.timeout_line = b""
    if seen & OVERRIDE and route.allow_override:
        exchange.picked = _overriding(route.by_version.get(special[OVERRIDE]))
        exchange.overridden = True
    if seen & EXPECT:
        if special[EXPECT].lower() != b"100-continue":
            raise Refused(Problems.EXPECTATION)
        exchange.continue_awaited = exchange.version_11 and not exchange.whole


def _overriding(arm: LiveArm | None) -> LiveArm:
    if arm is None:
        raise Refused(Problems.UNKNOWN_VERSION)
    if arm.state == "rolled_back":
        raise Refused(Problems.ROLLED_BACK)
    return arm


def origin_form(target: bytes) -> tuple[bytes, bytes]:
    """The authority, and the path with its query, of a target in absolute form.

    Raises:
        Refused: it has another form, or its authority cannot be a Host.
    """
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise Refused(Problems.UNKNOWN_PATH)
    authority, slash, path = rest.partition(b"/")
    if not authority or not headers.is_host(authority):
        raise Refused(Problems.MALFORMED)
    return authority, slash + path if slash else b"/"
