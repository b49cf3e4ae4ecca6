"""What control is told of bad outcomes one by one, and what becomes of requests whose canary is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from router.core.outcome import FAILURE, REJECTION, SLOW, BadEvent
from router.core.snapshot import ModelRoute
from router.core.split import fingerprint
from router.dataplane.limits import Limits
from tests.support.dataplane import Router, model, post, request, settled, target
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.wait import eventually

ALL = 10_000
FALLS_BACK: dict[str, Any] = {"idempotent": True, "fallback": True}


@pytest.fixture(autouse=True)
def nothing_told_before(router: Router) -> None:
    """What other tests left untold is none of ours."""
    router.bad()


@pytest.fixture
def canary(router: Router) -> Iterator[StubUpstream]:
    """A second model server."""
    with StubUpstream() as stub:
        yield stub


def only_canary(stub: StubUpstream, canary: StubUpstream, *, slow_after: float = 0.0, **options: Any) -> ModelRoute:
    """Every request is the canary's."""
    return model(target("v3", stub), target("v4", canary, weight=ALL, slow_after=slow_after), **options)


def summary(events: list[BadEvent]) -> list[tuple[str, int]]:
    """Version and kind of each event."""
    return [(event.arm.version, event.kind) for event in events]


@pytest.mark.parametrize(
    ("status", "kind"), [(500, FAILURE | SLOW), (503, FAILURE | SLOW), (400, REJECTION), (404, REJECTION)]
)
def test_a_bad_outcome_is_told_with_version_kind_weights_and_key(
    router: Router, stub: StubUpstream, status: int, kind: int
) -> None:
    stub.answer = Answer(status=status)
    router.serve(model(target("v3", stub), target("v4", stub, weight=2500), sticky_header="x-key"))
    client = router.connect()
    for number in range(20):
        client.ask(post(b"{}", b"x-key: %d" % number))

    events = router.bad()

    assert [event.key for event in events] == [fingerprint(b"fraud", b"%d" % number) for number in range(20)]
    assert {event.kind for event in events} == {kind}
    of = {event.arm.version: event.arm for event in events}
    assert (of["v4"].weight, of["v4"].stable_weight, of["v4"].canary, of["v4"].rivals) == (2500, 7500, True, ())
    assert (of["v3"].canary, of["v3"].rivals) == (False, (("v4", "digest-v4", 2500),))
    assert all(0 < event.age < 5 for event in events)


def test_without_a_key_none_is_told(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(status=500)
    router.serve(model(target("v3", stub), target("v4", stub, weight=2500), sticky_cookie="user"))

    router.ask(post(b"{}", b"cookie: other=1"))
    router.ask(post(b"{}", b"cookie: user=ann"))

    assert [event.key for event in router.bad()] == [0, fingerprint(b"fraud", b"ann")]


def test_a_success_tells_nothing(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), target("v4", stub, weight=5000)))
    client = router.connect()
    for _ in range(10):
        client.ask(post())

    assert router.bad() == []


@pytest.mark.parametrize(
    "data",
    [request(b"GET", b"/models/fraud/x"), post(b"{}", b"x-model-version: v4")],
    ids=["not a POST", "an override"],
)
def test_what_is_no_observation_tells_nothing(router: Router, stub: StubUpstream, data: bytes) -> None:
    stub.answer = Answer(status=500)
    router.serve(model(target("v3", stub), target("v4", stub, weight=5000), allow_override=True))

    assert router.ask(data).status == 500

    assert router.bad() == []


def test_a_version_that_nobody_judges_tells_nothing(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(status=500)
    router.serve(model(target("v3", stub), target("v4", stub, weight=0)))

    assert router.ask(post()).status == 500

    assert router.bad() == []


def test_a_fallback_is_the_canarys_failure_and_told_before_stable_has_answered(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    stub.answer, canary.answer = Answer(hold=True), Answer(status=500)
    router.serve(only_canary(stub, canary, **FALLS_BACK))
    client = router.connect()
    client.send(post())
    eventually(lambda: stub.requests, what="stable is asked")

    assert summary(router.bad()) == [("v4", FAILURE | SLOW)]

    stub.release()
    assert client.response().status == 200
    assert router.bad() == [], "once is enough"


def test_a_rejection_that_stable_shares_is_still_one(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    stub.answer = canary.answer = Answer(status=422)
    router.serve(only_canary(stub, canary, **FALLS_BACK))

    assert router.ask(post()).status == 422

    assert summary(router.bad()) == [("v4", REJECTION)]


def test_a_request_is_slow_before_it_ends_and_only_once(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    canary.answer = Answer(hold=True)
    router.serve(only_canary(stub, canary, slow_after=0.05))
    client = router.connect()
    client.send(post())
    told = eventually(router.bad, what="it is told slow while it hangs")

    canary.release()

    assert client.response().status == 200
    assert summary([*told, *router.bad()]) == [("v4", SLOW)]
    assert told[0].age < 1.0


def test_a_slow_one_that_fails_then_is_told_as_a_failure_only(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    canary.answer = Answer(hold=True)
    router.serve(only_canary(stub, canary, slow_after=0.05, timeout=0.4))
    client = router.connect()

    assert client.ask(post()).status == 504

    assert summary(router.bad()) == [("v4", SLOW), ("v4", FAILURE)]


def test_a_request_that_ended_late_is_slow(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    router.serve(only_canary(stub, canary, slow_after=1e-9))

    assert router.ask(post()).status == 200

    assert summary(router.bad()) == [("v4", SLOW)]


def test_an_abandoned_request_is_nobodys(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    canary.answer = Answer(hold=True)
    router.serve(only_canary(stub, canary))
    client = router.connect()
    client.send(post())
    eventually(lambda: canary.requests, what="the canary is asked")

    client.close()

    eventually(lambda: router.counts().get("v4") == {(499, "abandoned"): 1}, what="it is recorded as abandoned")
    assert router.bad() == []


# -- a rollback


def rolled_back(stub: StubUpstream, canary: StubUpstream, **options: Any) -> ModelRoute:
    """What control publishes when it rolls the canary back."""
    return model(target("v3", stub), target("v4", canary, weight=0, state="rolled_back"), **options)


def test_requests_that_wait_for_a_canary_that_is_rolled_back_go_to_stable_at_once(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    canary.answer = Answer(hold=True)
    router.serve(only_canary(stub, canary, **FALLS_BACK))
    clients = [router.connect() for _ in range(5)]
    for client in clients:
        client.send(post())
    eventually(lambda: len(canary.requests) == len(clients), what="all wait for the canary")

    router.serve(rolled_back(stub, canary, **FALLS_BACK))

    for client in clients:
        response = client.response()
        assert (response.status, response.header("x-model-version")) == (200, "v3")
    (batch,) = router.outcomes()
    assert (batch.arm.version, batch.counts) == ("v4", ((200, "fallback", True, 5),))
    assert batch.fallbacks == (("rollback", 5),)
    assert router.bad() == [], "a rollback is nobody's failure"
    canary.release()


def test_without_fallback_they_wait_on(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    canary.answer = Answer(hold=True)
    router.serve(only_canary(stub, canary))
    client = router.connect()
    client.send(post())
    eventually(lambda: canary.requests, what="it waits for the canary")

    router.serve(rolled_back(stub, canary))
    canary.release()

    assert client.response().header("x-model-version") == "v4"


def test_a_body_that_is_still_coming_meets_the_weights_of_its_end(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    router.serve(only_canary(stub, canary))
    client = router.connect()
    whole = post(b"0123456789")
    client.send(whole[:-5])
    eventually(lambda: router.under_way().get("bytes held"), what="half of the body is here")

    router.serve(rolled_back(stub, canary))
    client.send(whole[-5:])

    assert client.response().header("x-model-version") == "v3"


def test_a_response_that_has_begun_goes_on(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    canary.answer = Answer(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
    router.serve(only_canary(stub, canary, **FALLS_BACK))
    client = router.connect()
    client.send(post())
    assert client.head().header("x-model-version") == "v4"
    assert client.chunk() == b"one"

    router.serve(rolled_back(stub, canary, **FALLS_BACK))

    assert len(stub.requests) == 0


# -- how much one process takes


def test_a_process_takes_only_so_many_requests_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, stub: StubUpstream
) -> None:
    stub.answer = Answer(hold=True)
    with Router(tmp_path_factory.mktemp("run"), limits=Limits(in_flight=2)) as router, settled(router):
        router.serve(model(target("v3", stub)))
        waiting = [router.connect() for _ in range(2)]
        for client in waiting:
            client.send(post())
        eventually(lambda: len(stub.requests) == 2, what="two are under way")

        refused = router.ask(post())

        assert (refused.status, refused.header("retry-after") is not None) == (503, True)
        stub.release()
        assert [client.response().status for client in waiting] == [200, 200]
        assert router.ask(post()).status == 200
