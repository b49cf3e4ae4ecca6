"""Limits and deadlines with their answers (rules 8, 16), and what is pipelined (rule 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from router.dataplane.limits import Limits
from tests.support.dataplane import Router, Wire, answer, chunked, model, post, request, settled, target
from tests.support.stub_upstream import Answer, Request, StubUpstream
from tests.support.wait import eventually

CHUNKED = b"transfer-encoding: chunked"
SMALL = Limits(
    head=4096,
    head_lines=20,
    url=1024,
    pipelined=4,
    head_time=0.2,
    body_idle=0.2,
    keep_alive=0.3,
    unread=0.5,
    linger=0.3,
    in_flight_per_endpoint=2,
    held_bodies=100_000,
)


@pytest.fixture(scope="module")
def small_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A worker with small limits."""
    with Router(tmp_path_factory.mktemp("run"), limits=SMALL) as router:
        yield router


@pytest.fixture
def small(small_router: Router) -> Iterator[Router]:
    """The worker with small limits, for one test."""
    with settled(small_router):
        yield small_router


def problem_of(body: bytes) -> str:
    name: str = json.loads(body)["type"].rpartition(":")[2]
    return name


# -- the head


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("path", [b"/models/fraud/", b"/models/other/", b"/"])
def test_a_long_url_is_414(small: Router, stub: StubUpstream, whole: bool, path: bytes) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()

    client.send(
        b"POST " + path + b"x" * 1100 + (b" HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" if whole else b"")
    )

    response = client.response()
    assert (response.status, problem_of(response.body)) == (414, "uri-too-long")
    assert client.ended()
    assert not stub.requests


def test_a_url_at_the_limit_passes(small: Router, stub: StubUpstream) -> None:
    small.serve(model(target("v3", stub)))

    path = b"/models/fraud/".ljust(1024, b"x")

    assert small.ask(post(path=path)).status == 200


HEADS = {
    "one long value": b"x-a: " + b"x" * 5000 + b"\r\n",
    "one long name": b"x" * 5000 + b": a\r\n",
    "many lines": b"x-a: b\r\n" * 25,
    "many lines that end here": b"te: b\r\n" * 25,
    "many lines that are joined": b"via: b\r\n" * 25,
    "many cookies": b"cookie: b=c\r\n" * 25,
    "many bytes": b"x-a: %b\r\n" % (b"b" * 400) * 15,
    "many bytes that end here": b"te: %b\r\n" % (b"b" * 400) * 15,
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in part"])
@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS.keys())
def test_a_large_head_is_431(small: Router, stub: StubUpstream, lines: bytes, whole: bool) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()

    client.send(
        b"POST /models/fraud/invocations HTTP/1.1\r\nhost: a\r\n"
        + lines
        + (b"content-length: 0\r\n\r\n" if whole else b"")
    )

    response = client.response()
    # A head of which only a part came may also be too late; it was not too large yet.
    assert response.status == 431 or (response.status == 408 and not whole and len(lines) < SMALL.head)
    assert client.ended()
    assert not stub.requests


def test_a_large_head_piece_by_piece_is_431(small: Router, stub: StubUpstream) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()
    client.send(b"POST /models/fraud/invocations HTTP/1.1\r\nhost: a\r\n")

    for _ in range(30):
        client.send(b"x-a: %b\r\n" % (b"b" * 200))

    assert client.response().status == 431


def test_a_large_head_behind_a_request_under_way_is_not_kept(small: Router, wire: Wire) -> None:
    small.serve(model(target("v3", wire)))
    client = small.connect()
    client.send(post())
    served, _ = wire.get()

    client.send(b"POST /models/fraud/invocations HTTP/1.1\r\nhost: a\r\n")
    for _ in range(30):
        client.send(b"x-a: %b\r\n" % (b"b" * 200))
    client.send(b"content-length: 0\r\n")
    kept = eventually(lambda: small.on_loop(lambda: [sum(map(len, c.lines)) for c in small.worker.connections]))
    assert max(kept) <= 2 * SMALL.head
    served.send(answer(b"first"))

    assert client.response().body == b"first"
    assert client.response().status == 431
    assert client.ended()


START = b"POST /models/fraud/invocations HTTP/1.1\r\nhost: a\r\nx-a:"


@pytest.mark.parametrize("sent", [b"", b"G", START])
def test_a_slow_head_is_408_and_an_idle_connection_closes(small: Router, stub: StubUpstream, sent: bytes) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()
    assert client.ask(post()).status == 200

    client.send(sent)

    if sent:
        response = client.response()
        assert (response.status, problem_of(response.body)) == (408, "request-timeout")
    assert client.ended()


def test_a_head_that_begins_late_on_an_idle_connection_has_its_time(small: Router, stub: StubUpstream) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()
    assert client.ask(post()).status == 200

    assert client.silent(0.2)
    client.send(START)

    assert client.response().status == 408


def test_a_slow_head_that_began_behind_a_request_is_408(small: Router, stub: StubUpstream) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()

    client.send(post() + START)

    assert [client.response().status, client.response().status] == [200, 408]
    assert client.ended()


def test_bytes_now_and_then_do_not_lengthen_the_heads_deadline(small: Router, stub: StubUpstream) -> None:
    small.serve(model(target("v3", stub)))
    client = small.connect()
    client.send(b"POST / HTTP/1.1\r\n")

    while client.silent(0.05):
        client.send(b"x: y\r\n")

    assert client.response().status in (408, 431)


# -- the body


def test_a_declared_length_over_the_limit_is_413_before_anything_reached_a_server(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), max_body=100))
    client = router.connect()

    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 101"))

    response = client.response()
    assert (response.status, problem_of(response.body)) == (413, "body-too-large")
    assert client.ended()
    assert wire.connections == 0


@pytest.mark.parametrize("size", [100, 101, 200_000])
def test_a_whole_body_is_held_to_the_limit(router: Router, stub: StubUpstream, size: int) -> None:
    router.serve(model(target("v3", stub), max_body=100))
    client = router.connect()

    client.send(post(b"x" * size))

    assert client.response().status == (200 if size == 100 else 413)
    assert len(stub.requests) == (1 if size == 100 else 0)


@pytest.mark.parametrize("size", [99, 100, 101, 200_000])
@pytest.mark.parametrize("buffer", [1000, 100])
def test_a_chunked_body_is_held_to_the_limit(router: Router, stub: StubUpstream, size: int, buffer: int) -> None:
    router.serve(model(target("v3", stub), max_body=100, buffer=buffer))
    client = router.connect()

    client.send(post(b"", CHUNKED, length=False) + chunked(b"x" * size))

    assert client.response().status == (200 if size <= 100 else 413)
    assert [len(seen.body) for seen in stub.requests] == ([size] if size <= 100 else [])


def test_a_streamed_body_that_passes_the_limit_closes_upstream(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), max_body=100, buffer=10))
    client = router.connect()
    client.send(post(b"", CHUNKED, length=False) + b"%x\r\n%b\r\n" % (90, b"x" * 90))
    served = wire.accept()
    served.request_head()
    assert served.chunk() == b"x" * 90

    client.send(b"%x\r\n%b\r\n" % (11, b"y" * 11))

    assert client.response().status == 413
    assert client.ended()
    assert served.ended()


@pytest.mark.parametrize("buffer", [1000, 2])
@pytest.mark.parametrize("framing", [b"content-length: 10", CHUNKED])
def test_a_slow_body_is_408(small: Router, wire: Wire, buffer: int, framing: bytes) -> None:
    small.serve(model(target("v3", wire), buffer=buffer))
    client = small.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", framing))
    client.send(b"hello" if b"length" in framing else b"5\r\nhello\r\n")

    response = client.response()

    assert (response.status, problem_of(response.body)) == (408, "request-timeout")
    assert client.ended()


def test_a_trickling_body_meets_the_requests_deadline(small: Router, wire: Wire) -> None:
    small.serve(model(target("v3", wire), timeout=0.4, attempt_timeout=0.4))
    client = small.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 1000"))

    while client.silent(0.05):
        client.send(b"x")

    assert client.response().status == 408
    assert wire.connections == 0


def test_bodies_beyond_the_memory_budget_stream(small: Router, wire: Wire) -> None:
    small.serve(model(target("v3", wire)))
    client = small.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 150000"))

    client.send(b"x" * 149_999)
    served = wire.accept()
    head = served.request_head()
    assert served.exactly(149_999)
    assert small.on_loop(lambda: small.worker.held) == 0
    client.send(b"y")
    served.exactly(1)
    served.send(answer())

    assert client.response().status == 200
    assert head.header("content-length") == "150000"


# -- the response


def test_a_client_that_does_not_read_is_given_up(small: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(body=b"x" * 20_000_000)
    small.serve(model(target("v3", stub)))
    client = small.connect(receive_buffer=4096)

    client.send(post())
    eventually(lambda: small.on_loop(lambda: bool(small.worker.connections)))

    eventually(lambda: not small.on_loop(lambda: small.worker.connections))
    assert small.counts() == {"v3": {(200, "abandoned"): 1}} or small.outcomes() == []


# -- overload


def test_over_the_limit_of_an_endpoint_it_is_503_at_once(small: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(hold=True)
    small.serve(model(target("v3", stub)))
    first, second, third = (small.connect() for _ in range(3))
    for number, client in enumerate((first, second), 1):
        client.send(post())
        eventually(lambda number=number: len(stub.requests) == number)  # type: ignore[misc]  # mypy wants no default here

    refused = third.ask(post())
    stub.release()

    assert (refused.status, problem_of(refused.body)) == (503, "overloaded")
    assert refused.header("retry-after") == "1"
    assert refused.header("proxy-status") == "canary-router; error=connection_limit_reached"
    assert [first.response().status, second.response().status] == [200, 200]
    assert third.ask(post()).status == 200, "the connection goes on"


def test_an_overloaded_canary_is_answered_for_by_stable(small: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(body=b"stable")
    with StubUpstream() as canary:
        canary.answer = Answer(hold=True)
        small.serve(model(target("v3", stub), target("v4", canary, weight=10_000), idempotent=True, fallback=True))
        busy = [small.connect(), small.connect()]
        for client in busy:
            client.send(post())
        eventually(lambda: len(canary.requests) == 2)

        assert small.ask(post()).body == b"stable"
        canary.release()
        assert [client.response().status for client in busy] == [200, 200]
    (batch,) = small.outcomes()
    assert batch.fallbacks == (("overloaded", 1),)


def test_fallback_is_bounded_by_what_stable_has_under_way(small: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(hold=True)
    with StubUpstream() as canary:
        canary.answer = Answer(status=500, body=b"canary")
        small.serve(model(target("v3", stub), target("v4", canary, weight=10_000), idempotent=True, fallback=True))
        busy = [small.connect(), small.connect()]
        for client in busy:
            client.send(post())
        eventually(lambda: len(stub.requests) == 2)

        response = small.ask(post())
        assert (response.status, response.body) == (500, b"canary")
        stub.release()
        assert [client.response().status for client in busy] == [200, 200]


# -- pipelining


def test_pipelined_requests_are_answered_in_their_order(router: Router, stub: StubUpstream) -> None:
    def slow_first(seen: Request) -> Answer:
        return Answer(body=seen.body, delay=0.1 if seen.body == b"0" else 0)

    stub.answer = slow_first
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(b"".join(post(b"%d" % number) for number in range(10)))

    assert [client.response().body for _ in range(10)] == [b"%d" % number for number in range(10)]
    assert stub.connections == 1


def test_a_pipelined_body_may_come_later(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    second = post(b"x" * 50_000)
    client.send(post(b"first") + second[:30_000])
    served, _ = wire.get()
    served.send(answer(b"1"))
    assert client.response().body == b"1"

    client.send(second[30_000:])

    served, seen = wire.get()
    served.send(answer(b"2"))
    assert seen.body == b"x" * 50_000
    assert client.response().body == b"2"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_pipelined_large_body_may_come_later(router: Router, stub: StubUpstream, framing: str) -> None:
    stub.answer = lambda seen: Answer(body=b"%d" % len(seen.body))
    router.serve(model(target("v3", stub), buffer=1000))
    client = router.connect()
    body = b"x" * 3_000_000
    large = post(body) if framing == "length" else post(b"", CHUNKED, length=False) + chunked(body)

    client.send(post(b"a") + large + post(b"bc"))

    assert [client.response().body for _ in range(3)] == [b"1", b"3000000", b"2"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_behind_a_streamed_upload_waits_for_its_answer(router: Router, wire: Wire, framing: str) -> None:
    router.serve(model(target("v3", wire), buffer=10))
    client = router.connect()
    whole = post(b"x" * 100) if framing == "length" else post(b"", CHUNKED, length=False) + chunked(b"x" * 100)
    client.send(whole[:-20])
    served = wire.accept()
    eventually(lambda: served.more() and b"xxx" in served.buffer)
    client.send(whole[-20:])
    assert served.request().body == b"x" * 100

    client.send(post(b"second"))
    assert served.silent(0.1)
    served.send(answer(b"1"))
    assert client.response().body == b"1"

    served, seen = wire.get()
    served.send(answer(b"2"))
    assert (served.number, seen.body) == (1, b"second")
    assert client.response().body == b"2"


def test_many_pipelined_requests_wait_for_their_turn(small: Router, stub: StubUpstream) -> None:
    stub.answer = lambda seen: Answer(body=seen.body)
    small.serve(model(target("v3", stub)))
    client = small.connect()

    client.send(b"".join(post(b"%d" % number) for number in range(200)))

    assert [client.response().body for _ in range(200)] == [b"%d" % number for number in range(200)]
    assert stub.connections == 1


def test_few_of_many_pipelined_requests_are_taken_at_once(small: Router, wire: Wire) -> None:
    small.serve(model(target("v3", wire)))
    client = small.connect()
    client.send(request(b"GET", b"/models/fraud/x") * 4000)
    served, _ = wire.get()

    def waiting() -> list[int]:
        return [len(connection.waiting or ()) for connection in small.worker.connections]

    eventually(lambda: small.on_loop(waiting) > [0])
    assert small.on_loop(waiting) < [400]
    served.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [1, 3000, 20_000])
def test_pipelined_bodies_arrive_whole(small: Router, stub: StubUpstream, framing: str, size: int) -> None:
    stub.answer = lambda seen: Answer(body=seen.body)
    small.serve(model(target("v3", stub), buffer=10_000))
    client = small.connect()
    bodies = [bytes([97 + number % 26]) * size for number in range(20)]

    for body in bodies:
        client.send(post(body) if framing == "length" else post(b"", CHUNKED, length=False) + chunked(body))

    assert [client.response().body for _ in bodies] == bodies


def test_pipelined_problems_and_health_do_not_nest(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send((request(b"GET", b"/v2/health/live") + request(b"GET", b"/none")) * 1000)

    assert [client.response("GET").status for _ in range(2000)] == [200, 404] * 1000


def test_an_early_refusal_does_not_answer_for_the_next_request(router: Router, stub: StubUpstream) -> None:
    """The body of a refused request is not taken for a request."""
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(post(post(b"inner"), path=b"/models/other/invocations") + post(b"outer"))

    assert client.response().status == 404
    assert client.response().status == 200
    assert [seen.body for seen in stub.requests] == [b"outer"]


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_a_client_that_asks_on_without_reading_is_held_back(router: Router, stub: StubUpstream, size: int) -> None:
    stub.answer = Answer(body=b"x" * size)
    router.serve(model(target("v3", stub)))
    client = router.connect(receive_buffer=4096)

    def unread() -> int:
        return max((c.transport.get_write_buffer_size() for c in router.worker.connections), default=0)

    sent = 0

    def went_on() -> bool:
        return len(stub.requests) == sent or router.on_loop(unread) > 0

    while sent < 4000 and not router.on_loop(unread):
        client.send(post() * 20)
        sent += 20
        eventually(went_on)
    client.send(post() * 20)

    assert router.on_loop(unread) < 3_000_000
    assert sent < 4000
    assert [len(client.response().body) for _ in range(sent + 20)] == [size] * (sent + 20)
