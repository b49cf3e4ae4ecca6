"""A snapshot made live: raw targets to models, slots to versions.

Rules:
1. Matching works on the raw request target; the model's name is looked up, never decoded or joined into a path.
2. What follows the name goes on as it was sent; a target with a dot segment, however encoded, is refused.
3. A region's table is swapped model by model: a request sees one model's route whole, old or new.
4. Gauges outlive a snapshot: `Load` is shared by all arms of a model's version in a region.
5. Of what there are thousands the garbage collector sees little: going through it holds up requests.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Sequence
from random import random
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from router.core.outcome import Arm
from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, Target
from router.dataplane.headers import key_of
from router.dataplane.pool import Pool, Pools
from router.dataplane.timers import NEVER, Steps

RETRY_SHARE = 0.2
RETRY_FLOOR = 3.0
NONE: frozenset[bytes] = frozenset()


class RetryBudget:
    """How many retries a version may have: 20 % of its requests and 3 per second.

    What is not used is kept for as many retries as there are requests under way: when an endpoint dies, those it had
    are retried at once; an outage that lasts does not find a hoard.
    """

    __slots__ = ("_left", "_since", "_started")

    def __init__(self) -> None:
        self._since = 0.0
        self._started = 0
        self._left = 0.0

    def take(self, now: float, started: int, in_flight: int) -> bool:
        """Whether one more retry is within the budget.

        Args:
            now: monotonic seconds.
            started: how many requests the version has had so far.
            in_flight: how many of them are under way.
        """
        gained = RETRY_FLOOR * (now - self._since) + RETRY_SHARE * (started - self._started)
        self._left = min(self._left + gained, max(RETRY_FLOOR, in_flight))
        self._since, self._started = now, started
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


LoadName = tuple[str, str, str]
"""Model, region, version."""


class Load:
    """What one version of a model has under way here, and how many requests it has had."""

    __slots__ = ("budget", "requests", "started")

    def __init__(self) -> None:
        self.requests = 0
        self.started = 0
        self.budget = RetryBudget()

    def may_retry(self, now: float) -> bool:
        """Whether one more retry is within the budget; takes it."""
        return self.budget.take(now, self.started, self.requests)


class Peer(msgspec.Struct, gc=False, eq=False):
    """An endpoint as one version sees it: its pool, and the first lines of a request towards it (rule 5)."""

    pool: Pool
    healthy: bool
    base: bytes
    tail: bytes
    canonical: bytes

    def head(self, method: bytes, target: bytes) -> bytes:
        """The request line, the Host line and the credential lines of a request for `target`."""
        if method == b"POST" and target == b"/invocations":
            return self.canonical
        return method + b" " + self.base + target + self.tail


def peer_of(endpoint: Endpoint, pool: Pool, credentials: bytes) -> Peer:
    """`endpoint` with its `pool`; `credentials` are header lines."""
    base = endpoint.base_path.encode()
    tail = b" HTTP/1.1\r\nhost: " + endpoint.authority.encode() + b"\r\n" + credentials
    return Peer(pool, endpoint.healthy, base, tail, b"POST " + base + b"/invocations" + tail)


def choose(peers: tuple[Peer, ...], now: float, failed: Peer | None) -> Peer | None:
    """Of two endpoints drawn at random the one with less under way.

    An endpoint that is ejected, unhealthy or has just failed this request is taken only where no other is left:
    a version's last endpoint is tried on.
    """
    others = [peer for peer in peers if peer is not failed]
    good = [peer for peer in others if peer.healthy and peer.pool.health.ejected_until <= now] or others
    if len(good) < 2:
        return good[0] if good else failed
    first = int(random() * len(good))  # noqa: S311 - a draw, not a secret
    second = int(random() * (len(good) - 1))  # noqa: S311 - a draw, not a secret
    if second >= first:
        second += 1
    one, other = good[first], good[second]
    return one if one.pool.in_flight <= other.pool.in_flight else other


class LiveArm:
    """One version in one region, with the weights in force."""

    __slots__ = (
        "admitted", "judged", "key", "load", "peers", "replaced_headers", "slow_after", "state", "upstream_model",
        "version", "version_line",
    )  # fmt: skip

    def __init__(self, key: Arm, target: Target, peers: tuple[Peer, ...], load: Load) -> None:
        self.key = key
        self.version = target.version.encode()
        self.version_line = b"x-model-version: " + self.version + b"\r\n"
        self.upstream_model = target.upstream_model.encode()
        self.state = target.state
        self.admitted = target.admitted
        self.peers = peers
        self.load = load
        self.judged = bool(key.rivals) or (key.canary and key.weight > 0)
        self.slow_after = target.slow_after if self.judged and target.slow_after > 0 else NEVER
        self.replaced_headers = (
            frozenset(name.lower().encode() for name, _ in target.headers) if target.headers else NONE
        )


class Route:
    """One model in one region, ready to pick from."""

    __slots__ = (
        "_choices", "_ends", "allow_override", "arms", "attempt_timeout", "buffer", "by_version", "fallback",
        "has_bounds", "idempotent", "max_body", "model", "name", "single", "stable", "sticky_cookie", "sticky_header",
        "timeout", "timeout_line",
    )  # fmt: skip

    def __init__(self, model: ModelRoute, region: RegionRoute, arms: tuple[LiveArm, ...]) -> None:
        self.model = model.model
        self.name = model.model.encode()
        self.arms = arms
        self.stable = arms[region.stable]
        self.has_bounds = any(arm.slow_after != NEVER for arm in arms)
        self._ends, self._choices = region.slots
        self.single = arms[self._choices[0]] if len(self._choices) == 1 else None
        self.by_version = {arm.version: arm for arm in reversed(arms)}
        self.timeout = model.timeout
        self.attempt_timeout = model.attempt_timeout
        self.timeout_line = b"x-request-timeout: %dms\r\n" % int(model.timeout * 1000)
        self.idempotent = model.idempotent
        self.fallback = model.fallback and model.idempotent
        self.max_body = model.max_body
        self.buffer = model.buffer
        self.allow_override = model.allow_override
        self.sticky_header = key_of(model.sticky_header.lower().encode())
        self.sticky_cookie = model.sticky_cookie.encode()

    def arm_at(self, slot: int) -> LiveArm:
        """The arm that has `slot`."""
        return self.arms[self._choices[bisect_right(self._ends, slot)]]


class Match(NamedTuple):
    """Where a target leads: to `before`, or to `before + upstream's name of the model + after` if `named`."""

    route: Route
    before: bytes
    after: bytes = b""
    named: bool = False


class BadPath(Exception):  # noqa: N818 - a verdict on a path, not an error of the program
    """The target could leave the model's prefix."""


class BadEscape(Exception):  # noqa: N818 - see above
    """The path has a `%` that begins no escape, or an escaped NUL."""


class UnknownModel(Exception):  # noqa: N818 - see above
    """The target is a prediction path, but no model has this name."""


class Table:
    """All models of one region."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._routes: dict[bytes, Route] = {}
        self.bounded: set[bytes] = set()
        """The models in which some version has a bound over which it is slow."""
        self.exact: dict[bytes, Match] = {}
        """The canonical targets, found with one look-up."""

    def __len__(self) -> int:
        return len(self._routes)

    def put(self, route: Route) -> None:
        """Adds or replaces a model (rule 3)."""
        self._routes[route.name] = route
        (self.bounded.add if route.has_bounds else self.bounded.discard)(route.name)
        self.exact[b"/models/" + route.name + b"/invocations"] = Match(route, b"/invocations")

    def remove(self, model: str) -> Route | None:
        """Takes a model out; None where there was none."""
        name = model.encode()
        self.bounded.discard(name)
        self.exact.pop(b"/models/" + name + b"/invocations", None)
        return self._routes.pop(name, None)

    def get(self, model: str) -> Route | None:
        """A model's route."""
        return self._routes.get(model.encode())

    def names(self) -> set[str]:
        """The names of all models."""
        return {route.model for route in self._routes.values()}

    def routes(self) -> Iterable[Route]:
        """The routes of all models."""
        return self._routes.values()

    def match(self, target: bytes) -> Match | None:
        """Where `target`, in origin form with its query, leads; None where it is no prediction path.

        Raises:
            BadEscape: its path is not escaped as a path has to be.
            BadPath: it has a dot segment.
            UnknownModel: the path is known, the model is not.
        """
        path, mark, query = target.partition(b"?")
        if b"%" in path and _BAD_ESCAPE.search(path):
            raise BadEscape
        query = mark + query
        parts = path.split(b"/", 3)
        if len(parts) < 3 or parts[0]:
            return None
        if parts[1] == b"models":
            rest = b"/" + parts[3] if len(parts) == 4 else b"/"
            return Match(self._known(parts[2]), checked(rest) + query)
        if parts[1] in (b"v1", b"v2") and parts[2] == b"models" and len(parts) == 4:
            return self._named(parts[1], parts[3], query)
        if parts[1] in (b"endpoints", b"serving-endpoints") and len(parts) == 4 and parts[3] == b"invocations":
            return Match(self._known(parts[2]), b"/invocations" + query)
        return None

    def _named(self, protocol: bytes, rest: bytes, query: bytes) -> Match:
        name, slash, after = rest.partition(b"/")
        verb = b""
        if protocol == b"v1":
            name, colon, verb = name.partition(b":")
            verb = colon + verb
        return Match(
            self._known(name),
            b"/" + protocol + b"/models/",
            checked(verb + slash + after) + query,
            named=True,
        )

    def _known(self, name: bytes) -> Route:
        route = self._routes.get(name)
        if route is None:
            raise UnknownModel
        return route


MAX_DECODINGS = 4
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")


def checked(path: bytes) -> bytes:
    """`path` itself, if no reading of it has a dot segment (rule 2).

    Raises:
        BadPath: it has one, perhaps encoded several times, behind a backslash that some servers take for a slash,
            or before parameters (`..;a`) that some cut off; or it is encoded more often than anybody honest would.
    """
    reading = path
    for _ in range(MAX_DECODINGS):
        segments = reading.replace(b"\\", b"/").split(b"/")
        if any(segment.partition(b";")[0] in (b".", b"..") for segment in segments):
            raise BadPath
        further = unquote_to_bytes(reading)
        if further == reading:
            return path
        reading = further
    raise BadPath


def _rivals(region: RegionRoute) -> tuple[tuple[str, str, int], ...]:
    """The canaries that have weight in `region`."""
    return tuple(
        (target.version, target.digest, target.weight)
        for index, target in enumerate(region.targets)
        if index != region.stable and target.weight
    )


class Compiler:
    """Makes live routes from a snapshot's models; keeps loads and pools across snapshots (rule 4)."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.loads: dict[LoadName, Load] = {}

    def route(self, model: ModelRoute, region: RegionRoute) -> Route:
        """The live route of `model` in `region`."""
        arms = tuple(self._arm(model, region, index, target) for index, target in enumerate(region.targets))
        return Route(model, region, arms)

    def _arm(self, model: ModelRoute, region: RegionRoute, index: int, target: Target) -> LiveArm:
        key = Arm(
            model=model.model,
            region=region.region,
            version=target.version,
            digest=target.digest,
            weight=target.weight,
            stable_weight=region.targets[region.stable].weight,
            canary=index != region.stable,
            rivals=_rivals(region) if index == region.stable else (),
        )
        credentials = b"".join(f"{name}: {value}\r\n".encode() for name, value in target.headers)
        peers = tuple(peer_of(endpoint, self.pools.get(endpoint), credentials) for endpoint in target.endpoints)
        name = (model.model, region.region, target.version)
        load = self.loads.get(name)
        if load is None:
            load = self.loads[name] = Load()
        return LiveArm(key, target, peers, load)

    def load(self, route: Route, version: str) -> Load:
        """What `version` of `route`'s model has under way in its region."""
        return self.loads.get((route.model, route.stable.key.region, version)) or Load()

    async def tidy(self, routes: Sequence[Route], still: Callable[[], bool]) -> bool:
        """Forgets the pools and loads that neither `routes` nor a request uses, in small steps.

        Returns false where it has to be done again: a request holds a pool back, or while this was under way `routes`
        have become others, as `still` then says.
        """
        steps = Steps()
        pools: set[Pool] = set()
        loads: set[LoadName] = set()
        for route in routes:
            for arm in route.arms:
                pools.update(peer.pool for peer in arm.peers)
                loads.add((arm.key.model, arm.key.region, arm.key.version))
            await steps.pause()
        if not still():
            return False
        self.forget_all_but(loads)
        return self.pools.prune(pools)

    def forget_all_but(self, live: Container[LoadName]) -> None:
        """Forgets the loads of versions that are gone and have nothing under way."""
        for name in [name for name, load in self.loads.items() if name not in live and not load.requests]:
            del self.loads[name]
