"""Snapshots made live: matching, picking an arm, choosing an endpoint, and retry budgets."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.snapshot import Endpoint
from router.dataplane.pool import Pool, Pools
from router.dataplane.routes import BadPath, Compiler, RetryBudget, Route, Table, UnknownModel, checked, choose
from tests.support.dataplane import model, target

ENDPOINTS = tuple(Endpoint("tcp", "127.0.0.1", port, authority=f"server:{port}") for port in (1, 2, 3))


def compiler() -> Compiler:
    """One that opens no connections."""
    return Compiler(Pools(cast("Any", None), 10))


def live(*canaries: int, **options: Any) -> Route:
    """A route of v0 and canaries v1, v2 … with these weights, each at all endpoints."""
    arms = [target(f"v{n}", *ENDPOINTS, weight=weight) for n, weight in enumerate(canaries, 1)]
    made = model(target("v0", *ENDPOINTS), *arms, **options)
    return compiler().route(made, made.regions["default"])


# -- budgets


def test_a_fifth_of_the_requests_and_three_a_second_may_be_retried() -> None:
    budget = RetryBudget()

    at_once = sum(budget.take(100.0, 1, 50) for _ in range(80))
    after_100_requests = sum(budget.take(100.5, 101, 50) for _ in range(80))
    after_4_seconds = sum(budget.take(104.5, 101, 50) for _ in range(80))

    assert (at_once, after_100_requests, after_4_seconds) == (50, 21, 12)


@pytest.mark.parametrize(("in_flight", "kept"), [(0, 3), (3, 3), (40, 40)])
def test_what_is_not_used_is_kept_for_as_many_as_are_under_way(in_flight: int, kept: int) -> None:
    budget = RetryBudget()
    budget.take(100.0, 1, 50)

    assert sum(budget.take(10_000.0, 1_000_000, in_flight) for _ in range(80)) == kept


# -- choosing an endpoint


def peers(route: Route) -> Any:
    return route.stable.peers


def test_the_one_with_less_under_way_is_chosen() -> None:
    first, second, third = peers(live())
    first.pool.in_flight, second.pool.in_flight, third.pool.in_flight = 9, 9, 0

    chosen = Counter(choose((first, second, third), 0.0, None) for _ in range(300))

    assert chosen[third] == pytest.approx(200, abs=50), "it wins each draw that it is in: two of three"
    assert chosen[first] > 0


def test_one_that_has_just_failed_is_left_out() -> None:
    first, second, third = peers(live())

    assert {choose((first, second, third), 0.0, second) for _ in range(100)} == {first, third}
    assert choose((first,), 0.0, first) is first, "a version's last endpoint is tried on"


def test_ejected_and_unhealthy_ones_are_left_out_while_there_is_another() -> None:
    first, second, third = peers(live())
    first.pool.health.ejected_until = 50.0
    second.healthy = False

    assert {choose((first, second, third), 49.0, None) for _ in range(50)} == {third}
    assert {choose((first, second), 49.0, None) for _ in range(100)} == {first, second}
    assert {choose((first, second, third), 50.0, None) for _ in range(100)} == {first, third}
    assert {choose((first, second, third), 49.0, third) for _ in range(100)} == {first, second}
    assert choose((), 0.0, None) is None


# -- routes


def test_slots_lead_to_arms() -> None:
    route = live(1000, 500)

    assert [route.arm_at(slot).version for slot in (0, 999, 1000, 9499, 9500, 9999)] == [
        b"v1", b"v1", b"v0", b"v0", b"v2", b"v2",
    ]  # fmt: skip
    assert route.single is None
    assert live().single is not None


def test_an_arm_carries_the_weights_in_force() -> None:
    stable, canary = live(1000).arms

    assert (stable.key.weight, stable.key.stable_weight, stable.key.canary) == (9000, 9000, False)
    assert (canary.key.weight, canary.key.stable_weight, canary.key.canary) == (1000, 9000, True)
    assert canary.version_line == b"x-model-version: v1\r\n"


def test_by_version_finds_the_configs_version_where_an_old_stable_has_the_same_name() -> None:
    """The stand-in of a changed stable comes last and has its name."""
    route = live()
    made = model(target("v0", *ENDPOINTS), target("v0", digest="old", weight=0))

    assert compiler().route(made, made.regions["default"]).by_version[b"v0"].key.digest == "digest-v0"
    assert route.by_version[b"v0"] is route.stable


def test_fallback_needs_idempotent() -> None:
    assert not live(fallback=True).fallback
    assert live(fallback=True, idempotent=True).fallback


def test_a_head_has_the_base_path_the_host_and_the_credentials() -> None:
    endpoint = Endpoint("tls", "10.0.0.1", 443, authority="models.test", base_path="/base")
    made = model(target("v0", endpoint, headers=(("Authorization", "Bearer x"),)))
    arm = compiler().route(made, made.regions["default"]).stable
    tail = b" HTTP/1.1\r\nhost: models.test\r\nAuthorization: Bearer x\r\n"

    assert arm.peers[0].head(b"POST", b"/invocations") == b"POST /base/invocations" + tail
    assert arm.peers[0].head(b"GET", b"/x?y") == b"GET /base/x?y" + tail
    assert arm.replaced_headers == {b"authorization"}


def test_loads_and_pools_outlive_a_snapshot_and_go_when_nothing_needs_them() -> None:
    made = model(target("v0", ENDPOINTS[0]), target("v1", ENDPOINTS[1], weight=100))
    kept = compiler()
    table = Table("default")
    table.put(kept.route(made, made.regions["default"]))
    first = table.get("fraud")
    assert first is not None
    table.put(kept.route(made, made.regions["default"]))
    second = table.get("fraud")
    assert second is not None
    assert [arm.load for arm in first.arms] == [arm.load for arm in second.arms]
    assert [arm.peers[0].pool for arm in first.arms] == [arm.peers[0].pool for arm in second.arms]

    pools = {arm.peers[0].pool for arm in first.arms}
    assert asyncio.run(kept.tidy([second], lambda: True))
    assert {arm.load for arm in first.arms} == set(kept.loads.values())
    assert {kept.pools.get(endpoint) for endpoint in ENDPOINTS[:2]} == pools

    first.arms[1].load.requests = first.arms[1].peers[0].pool.in_flight = 1
    assert not asyncio.run(kept.tidy([], lambda: False)), "other routes came meanwhile"
    assert len(kept.loads) == 2
    assert not asyncio.run(kept.tidy([], lambda: True)), "a request holds a pool back"
    assert list(kept.loads) == [("fraud", "default", "v1")], "one request is still under way"
    first.arms[1].load.requests = first.arms[1].peers[0].pool.in_flight = 0
    assert asyncio.run(kept.tidy([], lambda: True))
    assert not kept.loads


def test_pools_are_told_apart_by_address_and_by_who_must_answer() -> None:
    pools = Pools(cast("Any", None), 10)
    one = Endpoint("tls", "10.0.0.1", 443, server_name="a")

    assert isinstance(pools.get(one), Pool)
    assert pools.get(one) is pools.get(Endpoint("tls", "10.0.0.1", 443, server_name="a", base_path="/x"))
    for other in (
        Endpoint("tls", "10.0.0.1", 443, server_name="b"),
        Endpoint("tcp", "10.0.0.1", 443, server_name="a"),
        Endpoint("tls", "10.0.0.2", 443, server_name="a"),
        Endpoint("tls", "10.0.0.1", 444, server_name="a"),
    ):
        assert pools.get(other) is not pools.get(one)


# -- tables


@pytest.fixture
def table() -> Table:
    table = Table("default")
    table.put(live())
    return table


def test_a_table_knows_its_models(table: Table) -> None:
    assert (len(table), table.names()) == (1, {"fraud"})
    assert [route.model for route in table.routes()] == ["fraud"]
    assert table.exact[b"/models/fraud/invocations"].route is table.get("fraud")

    removed = table.remove("fraud")

    assert removed is not None
    assert (len(table), table.exact) == (0, {})
    assert table.remove("fraud") is None
    assert table.get("fraud") is None


def test_a_match_says_where_the_models_name_goes(table: Table) -> None:
    match = table.match(b"/v1/models/fraud:predict?x=/../")

    assert match is not None
    assert match[1:] == (b"/v1/models/", b":predict?x=/../", True)


@pytest.mark.parametrize("target_", [b"*", b"", b"/", b"x", b"/x", b"/v1/other/x"])
def test_other_targets_match_nothing(table: Table, target_: bytes) -> None:
    assert table.match(target_) is None


def test_an_unknown_model_is_told_from_an_unknown_path(table: Table) -> None:
    with pytest.raises(UnknownModel):
        table.match(b"/models/other/invocations")


SEGMENTS = st.lists(
    st.sampled_from(["..", ".", "%2e%2e", "%2E.", "a", "", "..;x", "%252e%252e", "a.b", "...", "\\", "%5c"])
)


@given(SEGMENTS, st.sampled_from(["/", "%2f", "%252F", "\\", "%5C"]))
def test_what_is_let_through_has_no_dot_segment_in_any_reading(segments: list[str], separator: str) -> None:
    path = "/" + separator.join(segments)
    try:
        passed = checked(path.encode()).decode()
    except BadPath:
        return
    assert passed == path
    reading = path
    for _ in range(6):
        parts = reading.replace("\\", "/").split("/")
        assert not any(part.split(";")[0] in (".", "..") for part in parts)
        reading = reading.replace("%25", "%").replace("%2f", "/").replace("%2F", "/").replace("%5c", "\\")
        reading = reading.replace("%5C", "\\").replace("%2e", ".").replace("%2E", ".")


@given(st.lists(st.sampled_from(["a", "b.c", "..x", "%20", "käse", "x;y"]), min_size=1))
def test_honest_paths_pass(segments: list[str]) -> None:
    path = ("/" + "/".join(segments)).encode()

    assert checked(path) == path
