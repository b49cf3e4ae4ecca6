"""What becomes of a request: versions, deadlines, retries, fallback, problems and what is recorded (rules 15 to 17)."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from router.core.snapshot import Endpoint
from router.core.split import slot_of
from tests.support.dataplane import Response, Router, Wire, answer, chunked, endpoint, model, post, request, target
from tests.support.stub_upstream import Answer, Request, StubUpstream
from tests.support.wait import eventually

JSON = b"content-type: application/json"
ALL = 10_000


def check_problem(response: Response, status: int, name: str, error: str) -> dict[str, object]:
    """Asserts that `response` is the router's own, with every member it must have."""
    assert response.status == status
    assert response.header("content-type") == "application/problem+json"
    assert response.header("proxy-status") == f"canary-router; error={error}"
    body: dict[str, object] = json.loads(response.body)
    assert set(body) - {"model"} == {"type", "title", "status", "detail", "request_id"}
    assert body["type"] == f"urn:canary-router:problem:{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.header("x-request-id")
    return body


def nobody() -> Endpoint:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return Endpoint("tcp", "127.0.0.1", sock.getsockname()[1])


@pytest.fixture
def canary(router: Router) -> Iterator[StubUpstream]:
    """A second model server."""
    with StubUpstream() as stub:
        yield stub


# -- the router's own answers


def test_a_problem_has_every_member(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", nobody())))

    response = router.ask(post(b"{}", b"x-request-id: mine"))

    body = check_problem(response, 502, "upstream-unreachable", "connection_refused")
    assert body["model"] == "fraud"
    assert body["request_id"] == "mine"
    assert response.header("x-model-version") is None
    assert response.header("retry-after") is None
    assert str(nobody().port)[:2] not in response.body.decode().partition('"detail"')[2].partition('"model"')[0]


BROKEN: dict[str, tuple[bytes, str, str]] = {
    "closed without a word": (b"", "upstream-broke", "connection_terminated"),
    "closed in the head": (b"HTTP/1.1 200 OK\r\ncontent-", "upstream-broke", "connection_terminated"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream-garbled", "http_protocol_error"),
    "HTTP/0.9": (b"hello", "upstream-garbled", "http_protocol_error"),
    "another coding": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "upstream-garbled",
        "http_protocol_error",
    ),
    "differing lengths": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "upstream-garbled",
        "http_protocol_error",
    ),
    "length and coding": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "upstream-garbled",
        "http_protocol_error",
    ),
    "line feed in a value": (b"HTTP/1.1 200 OK\r\nx-a: 1\n2\r\n\r\n", "upstream-garbled", "http_protocol_error"),
    "switching protocols": (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "upstream-garbled",
        "http_protocol_error",
    ),
    "endless head": (
        b"HTTP/1.1 200 OK\r\n" + b"x-a: %b\r\n" % (b"a" * 1000) * 300,
        "upstream-garbled",
        "http_protocol_error",
    ),
}


@pytest.mark.parametrize(("sent", "name", "error"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_502(router: Router, wire: Wire, sent: bytes, name: str, error: str) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()

    served.send(sent)
    if error == "connection_terminated":
        served.close()

    check_problem(client.response(), 502, name, error)
    assert router.counts() == {"v3": {(502, "failure"): 1}}
    served.gone() if error != "connection_terminated" else None
    client.send(post())
    other, _ = wire.get()
    other.send(answer())
    assert client.response().status == 200, "the client's connection goes on"


def test_a_stable_that_is_not_ready_is_503_and_says_when_to_come_again(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub, state="unready")))

    response = router.ask(post())

    check_problem(response, 503, "not-ready", "destination_unavailable")
    assert response.header("retry-after") == "1"
    assert router.counts() == {"v3": {(503, "failure"): 1}}


def test_a_version_without_endpoints_is_503(router: Router) -> None:
    router.serve(model(target("v3")))

    check_problem(router.ask(post()), 503, "not-ready", "destination_unavailable")


def test_a_share_of_a_stable_that_is_not_ready_is_503_and_the_canarys_is_not(
    router: Router, stub: StubUpstream
) -> None:
    router.serve(model(target("v3", stub, state="warming"), target("v4", stub, weight=5000), sticky_header="x-key"))
    client = router.connect()

    for number in range(40):
        key = b"k%d" % number
        wanted = 200 if slot_of(b"fraud", key) < 5000 else 503
        assert client.ask(post(b"{}", b"x-key: " + key)).status == wanted


# -- deadlines


def test_the_deadline_is_504(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(hold=True)
    router.serve(model(target("v3", stub), timeout=0.2, attempt_timeout=0.2))
    client = router.connect()

    check_problem(client.ask(post()), 504, "deadline", "http_response_timeout")

    eventually(lambda: stub.gone_clients == 1, 1.0)
    assert router.counts() == {"v3": {(504, "failure"): 1}}


def test_the_deadline_of_connecting_is_504(router: Router) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        router.serve(model(target("v3", Endpoint("tcp", *deaf.getsockname())), timeout=0.2, attempt_timeout=0.2))

        check_problem(router.ask(post()), 504, "deadline", "http_response_timeout")

        for filler in fillers:
            filler.close()


def told(stub: StubUpstream) -> list[int]:
    """The deadlines that the server was told, in milliseconds."""
    values = [seen.header("x-request-timeout") or "" for seen in stub.requests]
    assert all(value.endswith("ms") for value in values)
    return [int(value[:-2]) for value in values]


def test_a_lower_deadline_is_kept_and_travels_on(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), timeout=30.0))
    client = router.connect()

    for value in (b"", b"500ms", b"2s", b"1.5s", b"60s", b"1h"):
        client.ask(post(b"{}", *([b"X-Request-Timeout: " + value] if value else [])))

    whole, half, two, one_and_a_half, *longer = told(stub)
    assert whole == 30_000
    assert 400 < half <= 500
    assert 1900 < two <= 2000
    assert 1400 < one_and_a_half <= 1500
    assert longer == [30_000, 30_000]
    assert all(len(seen.all_headers("x-request-timeout")) == 1 for seen in stub.requests)


def test_a_lower_deadline_ends_the_request(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(hold=True)
    router.serve(model(target("v3", stub)))

    check_problem(router.ask(post(b"{}", b"x-request-timeout: 100ms")), 504, "deadline", "http_response_timeout")


def test_time_that_the_body_took_is_not_promised_to_the_server(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), timeout=5.0, attempt_timeout=5.0))
    client = router.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 4") + b"{")
    assert client.silent(0.2)
    client.send(b" }\n")

    assert client.response().status == 200
    assert told(stub)[0] <= 4810


@pytest.mark.parametrize("odd", [b"", b"5", b"soon", b"-1s", b"1 s", b"1e3ms", b"500ms, 2s", b"1d", b"0x1s"])
def test_a_deadline_that_is_no_duration_is_400(router: Router, stub: StubUpstream, odd: bytes) -> None:
    router.serve(model(target("v3", stub)))

    response = router.ask(post(b"{}", b"x-request-timeout: " + odd))

    body = check_problem(response, 400, "bad-timeout", "http_request_error")
    assert "500ms" in str(body["detail"])
    assert not stub.requests


# -- overrides


def test_an_override_asks_for_a_version_and_is_no_observation(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    router.serve(model(target("v3", stub), target("v4", canary, weight=0), allow_override=True))
    client = router.connect()

    response = client.ask(post(b"{}", b"x-model-version: v4"))

    assert response.header("x-model-version") == "v4"
    assert (len(stub.requests), len(canary.requests)) == (0, 1)
    assert [batch.counts for batch in router.outcomes()] == [((200, "ok", False, 1),)]


def test_an_override_is_ignored_where_it_is_not_allowed(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), target("v4", stub, weight=0)))

    assert router.ask(post(b"{}", b"x-model-version: v4")).header("x-model-version") == "v3"


@pytest.mark.parametrize(
    ("state", "version", "status", "name", "error"),
    [
        ("ready", b"v5", 404, "unknown-version", "destination_not_found"),
        ("rolled_back", b"v4", 409, "version-rolled-back", "destination_unavailable"),
        ("warming", b"v4", 503, "not-ready", "destination_unavailable"),
    ],
)
def test_an_override_that_cannot_be(
    router: Router, stub: StubUpstream, state: str, version: bytes, status: int, name: str, error: str
) -> None:
    canary = target("v4", stub, weight=0, state=state)
    router.serve(model(target("v3", stub), canary, allow_override=True, idempotent=True, fallback=True))

    check_problem(router.ask(post(b"{}", b"x-model-version: " + version)), status, name, error)
    assert not stub.requests


def test_an_override_never_falls_back(router: Router, stub: StubUpstream) -> None:
    canary = target("v4", nobody(), weight=0)
    router.serve(model(target("v3", stub), canary, allow_override=True, idempotent=True, fallback=True))

    assert router.ask(post(b"{}", b"x-model-version: v4")).status == 502
    assert not stub.requests


# -- stickiness


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"sticky_header": "X-Customer-Id"}, b"x-customer-id: %b"),
        ({"sticky_header": "x-customer-id"}, b"X-CUSTOMER-ID: %b"),
        ({"sticky_cookie": "sid"}, b"cookie: other=1; sid=%b; more=x"),
        ({"sticky_cookie": "sid"}, b"Cookie: sid=%b"),
    ],
)
def test_a_key_decides_the_version(router: Router, stub: StubUpstream, options: dict[str, Any], line: bytes) -> None:
    router.serve(model(target("v3", stub), target("v4", stub, weight=3000), **options))
    client = router.connect()

    for number in range(50):
        key = b"customer-%d" % number
        wanted = "v4" if slot_of(b"fraud", key) < 3000 else "v3"
        response = client.ask(post(b"{}", line % key))
        assert response.header("x-model-version") == wanted
        assert response.header("set-cookie") is None
        assert line.partition(b":")[2].strip() % key in stub.requests[-1].head, "the key itself is passed on"


@pytest.mark.parametrize("options", [{}, {"sticky_header": "x-key"}, {"sticky_cookie": "sid"}])
def test_without_a_key_each_request_is_drawn_by_itself(
    router: Router, stub: StubUpstream, options: dict[str, Any]
) -> None:
    router.serve(model(target("v3", stub), target("v4", stub, weight=5000), **options))
    client = router.connect()

    drawn = Counter(
        client.ask(post(b"{}", b"x-key: ", b"cookie: other=same")).header("x-model-version") for _ in range(200)
    )

    assert 60 < drawn["v4"] < 140, "one chance in 100 million to fail"


def test_models_have_sticky_headers_of_their_own(router: Router, stub: StubUpstream) -> None:
    router.serve(
        model(target("v3", stub), target("v4", stub, weight=5000), name="a", sticky_header="x-a"),
        model(target("v3", stub), target("v4", stub, weight=5000), name="b", sticky_header="x-b"),
    )
    client = router.connect()

    for number in range(30):
        lines = (b"x-a: %d" % number, b"x-b: other-%d" % number)
        for name, key in ((b"a", b"%d" % number), (b"b", b"other-%d" % number)):
            wanted = "v4" if slot_of(name, key) < 5000 else "v3"
            response = client.ask(post(b"{}", *lines, path=b"/models/%b/invocations" % name))
            assert response.header("x-model-version") == wanted
    router.serve(model(target("v3", stub), name="a"))
    assert client.ask(post(b"{}", b"x-a: 1", path=b"/models/a/invocations")).status == 200


def test_a_sticky_header_that_the_router_knows_otherwise_still_holds_the_key(
    router: Router, stub: StubUpstream
) -> None:
    router.serve(model(target("v3", stub), target("v4", stub, weight=5000), sticky_header="X-Request-Id"))
    client = router.connect()

    for number in range(30):
        key = b"id-%d" % number
        wanted = "v4" if slot_of(b"fraud", key) < 5000 else "v3"
        assert client.ask(post(b"{}", b"x-request-id: " + key)).header("x-model-version") == wanted


# -- retries


def ask_several(router: Router, *servers: StubUpstream | Endpoint) -> list[int]:
    """The statuses of three requests to each of eight models: few enough for their retry budgets."""
    names = [f"model-{number}" for number in range(8)]
    router.serve(*(model(target("v3", *servers), name=name, idempotent=True) for name in names))
    client = router.connect()
    return [client.ask(post(b"{}", path=b"/models/%b/x" % name.encode())).status for name in names * 3]


def test_a_retry_goes_to_another_endpoint(router: Router, stub: StubUpstream) -> None:
    assert ask_several(router, nobody(), stub) == [200] * 24
    assert len(stub.requests) == 24
    assert router.counts() == {"v3": {(200, "ok"): 24}}


def test_what_could_not_be_sent_goes_to_another_endpoint_whatever_the_model(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", nobody(), stub)))

    assert [router.ask(post()).status for _ in range(30)] == [200] * 30
    assert len(stub.requests) == 30
    assert router.counts() == {"v3": {(200, "ok"): 30}}


@pytest.mark.parametrize("failure", [Answer(status=503), Answer(status=502), Answer(status=504), Answer(drop=True)])
def test_a_servers_own_failure_is_tried_once_more(
    router: Router, stub: StubUpstream, canary: StubUpstream, failure: Answer
) -> None:
    canary.answer = failure

    assert ask_several(router, stub, canary) == [200] * 24
    assert 0 < len(canary.requests) == sum(batch.retries for batch in router.outcomes())


@pytest.mark.parametrize("failure", [Answer(status=500), Answer(status=501), Answer(status=400), Answer(status=429)])
def test_what_would_only_come_again_is_not_retried(router: Router, stub: StubUpstream, failure: Answer) -> None:
    stub.answer = failure
    router.serve(model(target("v3", stub), idempotent=True))

    assert router.ask(post()).status == failure.status
    assert len(stub.requests) == 1


def test_nothing_is_sent_twice_without_idempotent(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(drop=True)
    router.serve(model(target("v3", stub, endpoint(stub)), fallback=True))

    assert router.ask(post()).status == 502
    assert len(stub.requests) == 1


def test_a_streamed_body_is_not_sent_twice(router: Router, wire: Wire, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), target("v4", wire, weight=ALL), idempotent=True, fallback=True, buffer=10))
    client = router.connect()
    whole = post(b"x" * 100)
    client.send(whole[:-50])
    served = wire.accept()
    served.request_head()
    client.send(whole[-50:])
    served.exactly(100)
    served.close()

    assert client.response().status == 502
    assert not stub.requests


def test_a_retry_is_told_what_is_left_of_the_deadline(router: Router, stub: StubUpstream) -> None:
    def slow_then_fast(_: Request) -> Answer:
        return Answer(status=503, delay=0.15) if len(stub.requests) == 1 else Answer()

    stub.answer = slow_then_fast
    router.serve(model(target("v3", stub), idempotent=True, timeout=2.0, attempt_timeout=1.0))

    assert router.ask(post()).status == 200
    first, second = told(stub)
    assert first == 2000
    assert second <= 1851


def test_an_attempt_that_takes_too_long_is_tried_again_within_the_deadline(router: Router, stub: StubUpstream) -> None:
    def slow_then_fast(_: Request) -> Answer:
        return Answer(hold=True) if len(stub.requests) == 1 else Answer(body=b"in time")

    stub.answer = slow_then_fast
    router.serve(model(target("v3", stub), idempotent=True, timeout=2.0, attempt_timeout=0.1))

    assert router.ask(post()).body == b"in time"
    assert router.counts() == {"v3": {(200, "ok"): 1}}


def test_retries_are_bounded_by_a_budget(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(status=503)
    router.serve(model(target("v3", stub), idempotent=True, name="budgeted"))
    client = router.connect()

    assert [client.ask(post(path=b"/models/budgeted/invocations")).status for _ in range(100)] == [503] * 100
    retries = len(stub.requests) - 100
    assert 20 <= retries <= 26, "3 at once, and a fifth of the requests"


# -- fallback

FAILURES: dict[str, tuple[Answer | None, str]] = {
    "500": (Answer(status=500), "status_500"),
    "503": (Answer(status=503), "status_503"),
    "refused": (None, "connect"),
    "dropped": (Answer(drop=True), "broken"),
    "garbled": (Answer(raw=b"garbage\r\n\r\n", close=True), "broken"),
    "cut in the head": (Answer(raw=b"HTTP/1.1 200 OK\r\nconte", close=True), "broken"),
    "timeout": (Answer(hold=True), "timeout"),
    "exception": (Answer(status=400, body=b'{"error_code": "BAD_REQUEST", "stack_trace": "x"}'), "exception"),
    "400": (Answer(status=400), "rejection"),
    "415": (Answer(status=415), "rejection"),
    "422": (Answer(status=422), "rejection"),
}


@pytest.mark.parametrize(("failure", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_canarys_failure_is_answered_by_stable(
    router: Router, stub: StubUpstream, canary: StubUpstream, failure: Answer | None, reason: str
) -> None:
    canary.answer = failure or Answer()
    where = canary if failure else nobody()
    stub.answer = Answer(body=b"from stable")
    router.serve(
        model(
            target("v3", stub, headers=(("x-of", "v3"),), upstream_model="three"),
            target("v4", where, weight=ALL, headers=(("x-of", "v4"),), upstream_model="four"),
            idempotent=True,
            fallback=True,
            timeout=2.0,
            attempt_timeout=0.2,
        )
    )
    client = router.connect()

    response = client.ask(post(b"the body", b"x-request-id: mine", path=b"/v2/models/fraud/infer"))

    assert (response.status, response.body) == (200, b"from stable")
    assert response.header("x-model-version") == "v3"
    assert response.header("proxy-status") is None
    assert len(stub.requests) == 1
    seen = stub.requests[0]
    assert (seen.body, seen.header("x-request-id"), seen.header("x-of")) == (b"the body", "mine", "v3")
    assert seen.target == "/v2/models/three/infer"
    (batch,) = router.outcomes()
    assert batch.arm.version == "v4"
    assert batch.counts == ((200, "fallback", True, 1),)
    assert batch.fallbacks == ((reason, 1),)
    assert client.ask(post(b"again")).status == 200, "the client's connection goes on"


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 429])
def test_other_rejections_are_the_clients(
    router: Router, stub: StubUpstream, canary: StubUpstream, status: int
) -> None:
    canary.answer = Answer(status=status)
    router.serve(model(target("v3", stub), target("v4", canary, weight=ALL), idempotent=True, fallback=True))

    response = router.ask(post())

    assert response.status == status
    assert response.header("x-model-version") == "v4"
    assert not stub.requests
    assert router.counts() == {"v4": {(status, "rejection"): 1}}


def test_stables_rejection_is_the_answer_where_both_reject(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    canary.answer = Answer(status=422, body=b"canary")
    stub.answer = Answer(status=400, body=b"stable")
    router.serve(model(target("v3", stub), target("v4", canary, weight=ALL), idempotent=True, fallback=True))

    response = router.ask(post())

    assert (response.status, response.body, response.header("x-model-version")) == (400, b"stable", "v3")


def test_there_is_one_fallback_at_most(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    canary.answer = stub.answer = Answer(status=500)
    router.serve(model(target("v3", stub), target("v4", canary, weight=ALL), idempotent=True, fallback=True))

    assert router.ask(post()).status == 500
    assert (len(canary.requests), len(stub.requests)) == (1, 1)
    assert router.counts() == {"v4": {(500, "failure"): 1}}


@pytest.mark.parametrize(
    ("options", "stable_state"),
    [
        ({"fallback": True}, "ready"),
        ({"idempotent": True}, "ready"),
        ({"idempotent": True, "fallback": True}, "unready"),
    ],
)
def test_no_fallback_unless_it_is_asked_for_and_stable_is_ready(
    router: Router, stub: StubUpstream, canary: StubUpstream, options: dict[str, Any], stable_state: str
) -> None:
    canary.answer = Answer(status=500, body=b"canary's")
    router.serve(model(target("v3", stub, state=stable_state), target("v4", canary, weight=ALL), **options))

    response = router.ask(post())

    assert (response.status, response.body) == (500, b"canary's")
    assert not stub.requests


def test_fallback_needs_time(router: Router, stub: StubUpstream, canary: StubUpstream) -> None:
    canary.answer = Answer(hold=True)
    router.serve(
        model(
            target("v3", stub),
            target("v4", canary, weight=ALL),
            idempotent=True,
            fallback=True,
            timeout=0.2,
            attempt_timeout=0.2,
        )
    )

    assert router.ask(post()).status == 504
    assert not stub.requests


def test_no_fallback_once_the_client_has_seen_a_byte(router: Router, wire: Wire, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), target("v4", wire, weight=ALL), idempotent=True, fallback=True))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"01234" + b"x" * 100_000)[:-100_000])
    assert client.head().status == 200
    assert client.exactly(5) == b"01234"

    served.reset()

    assert not client.ended()
    assert not stub.requests


def test_a_short_response_that_breaks_off_is_answered_by_stable(router: Router, wire: Wire, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), target("v4", wire, weight=ALL), idempotent=True, fallback=True))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"0123456789")[:-5])
    served.reset()
    # Nothing of it had left; a model that may be asked twice is.
    head = client.head()
    assert (head.status, head.header("x-model-version")) == (200, "v3")
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(b'{"error_code": "X", "stack_trace": "secret"}'), (("content-encoding", "gzip"),)),
        (zlib.compress(b'{"error_code": "X", "stack_trace": "secret"}'), (("content-encoding", "deflate"),)),
        (b'{"error_code": "X", "stack\\u005ftrace": "secret"}', ()),
        ('{"error_code": "X", "stack_trace": "secret"}'.encode("utf-16"), ()),
    ],
    ids=["gzip", "deflate", "escaped", "utf-16"],
)
def test_an_exception_in_any_spelling_is_masked(
    router: Router, stub: StubUpstream, body: bytes, headers: tuple[tuple[str, str], ...]
) -> None:
    stub.answer = Answer(status=400, body=body, headers=(("content-type", "application/json"), *headers))
    router.serve(model(target("v3", stub)))
    client = router.connect()
    client.send(post())
    assert client.head().status == 502


def test_trace_is_refused(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()
    client.send(b"TRACE /models/fraud/invocations HTTP/1.1\r\nhost: a\r\n\r\n")
    assert client.head().status == 405
    assert not stub.requests


# -- a model's exceptions

TRACE = b'{"error_code": "BAD_REQUEST", "message": "row [1, 2] secret", "stack_trace": "Traceback ..."}'
PAD = b'{"message": "%b", ' % (b"p" * 100_000)
PIECES: dict[str, Callable[[bytes], list[bytes]]] = {
    "at once": lambda data: [data],
    "byte by byte": lambda data: [data[at : at + 1] for at in range(len(data))],
    "in the middle of the name": lambda data: [data[: data.index(b"ck_tr")], data[data.index(b"ck_tr") :]],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
@pytest.mark.parametrize("framing", ["length", "chunked", "unframed"])
@pytest.mark.parametrize("kind", [b"application/json", b"application/problem+JSON; charset=utf-8"])
def test_a_stack_trace_never_leaves_the_router(
    router: Router, wire: Wire, pieces: Callable[[bytes], list[bytes]], framing: str, kind: bytes
) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    lines = {
        "length": b"content-length: %d" % len(TRACE),
        "chunked": b"transfer-encoding: chunked",
        "unframed": b"connection: close",
    }
    served.send(answer(b"", b"Content-Type: " + kind, lines[framing], status=b"400 Bad Request", length=False))
    # The router need not hear a server out that has said enough.
    with suppress(ConnectionError):
        for piece in pieces(TRACE if framing != "chunked" else chunked(TRACE[:40], TRACE[40:])):
            served.send(piece)
    if framing == "unframed":
        served.close()

    response = client.response()

    check_problem(response, 502, "model-exception", "http_protocol_error; received-status=400")
    assert response.header("x-model-version") == "v3"
    assert b"stack" not in response.body
    assert b"secret" not in response.body
    assert router.counts() == {"v3": {(502, "failure"): 1}}


@pytest.mark.parametrize(
    "body", [b'{"error": "bad"}', b'{"a": "\\"stack_trace\\""}', b'{"missing": ["stack_trace"]}', b"{}", b""]
)
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_plain_json_400_passes_whole(router: Router, wire: Wire, body: bytes, cut: int) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    whole = answer(body, JSON, status=b"400 Bad Request")

    served.send(whole[: len(whole) - cut])
    if cut:
        assert client.silent(0.02)
        served.send(whole[len(whole) - cut :])

    response = client.response()
    assert (response.status, response.body) == (400, body)
    assert router.counts() == {"v3": {(400, "rejection"): 1}}


@pytest.mark.parametrize("status", [b"200 OK", b"422 Unprocessable", b"500 Error"])
def test_only_a_json_400_is_looked_into(router: Router, stub: StubUpstream, status: bytes) -> None:
    stub.answer = Answer(status=int(status[:3]), body=TRACE)
    router.serve(model(target("v3", stub)))
    assert router.ask(post()).body == TRACE
    stub.answer = Answer(status=400, body=TRACE, headers=(("content-type", "text/plain"),))
    assert router.ask(post()).body == TRACE


def test_a_long_json_400_passes_too(router: Router, stub: StubUpstream) -> None:
    body = PAD + b'"missing": ["stack_trace", "a"], "first" : "stack_trace"\n, "end": "stack_trace"}'
    stub.answer = Answer(status=400, body=body)
    router.serve(model(target("v3", stub)))

    response = router.ask(post())

    assert (response.status, response.body) == (400, body)


@pytest.mark.parametrize("cut", [0, 5, 12, 18])
def test_a_stack_trace_behind_64_kib_does_not_leave_the_router_either(router: Router, wire: Wire, cut: int) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    whole = answer(PAD + TRACE[1:], JSON, status=b"400 Bad Request")
    at = whole.index(b'"stack_trace"') + cut - 6
    served.send(whole[:at])
    assert client.head().status == 400
    assert b"stack_trace" not in client.exactly(90_000)

    served.send(whole[at:])

    try:
        rest = client.to_end()
    except ConnectionResetError:
        rest = client.buffer
    assert b'"stack_trace"' not in rest
    assert b"Traceback" not in rest
    assert router.counts() == {"v3": {(400, "failure"): 1}}


# -- ejection


def test_an_endpoint_that_fails_five_times_in_a_row_is_left_out(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    canary.answer = Answer(status=500)
    router.serve(model(target("v3", stub, canary)))
    client = router.connect()

    statuses = [client.ask(post()).status for _ in range(80)]

    assert len(canary.requests) == statuses.count(500) == 5
    assert statuses[-20:] == [200] * 20


def test_the_last_endpoint_is_tried_on(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(status=500)
    router.serve(model(target("v3", stub)))
    client = router.connect()

    assert [client.ask(post()).status for _ in range(12)] == [500] * 12
    stub.answer = Answer()
    assert client.ask(post()).status == 200
    assert router.counts() == {"v3": {(500, "failure"): 12, (200, "ok"): 1}}


def test_an_endpoint_that_is_replaced_finishes_what_it_has(router: Router, wire: Wire, stub: StubUpstream) -> None:
    router.serve(model(target("v3", wire)))
    before, after = router.connect(), router.connect()
    before.send(post(b"before"))
    served, _ = wire.get()

    router.serve(model(target("v3", stub)))

    assert after.ask(post(b"after")).status == 200
    assert [seen.body for seen in stub.requests] == [b"after"]
    served.send(answer(b"finished"))
    assert before.response().body == b"finished"
    assert before.ask(post(b"again")).status == 200
    assert len(stub.requests) == 2


def test_an_unhealthy_endpoint_is_used_only_where_no_other_is_left(
    router: Router, stub: StubUpstream, canary: StubUpstream
) -> None:
    router.serve(model(target("v3", stub, endpoint(canary, healthy=False))))
    client = router.connect()
    assert [client.ask(post()).status for _ in range(20)] == [200] * 20
    assert not canary.requests

    router.serve(model(target("v3", endpoint(canary, healthy=False))))
    assert client.ask(post()).status == 200


# -- what is recorded


def test_an_outcome_carries_the_weights_in_force(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), target("v4", stub, weight=2500), sticky_header="x-key"))
    client = router.connect()
    keys = [b"%d" % number for number in range(40)]
    for key in keys:
        client.ask(post(b"{}", b"x-key: " + key))

    arms = {batch.arm.version: batch for batch in router.outcomes()}

    assert {(a.arm.weight, a.arm.stable_weight, a.arm.canary) for a in arms.values()} == {
        (7500, 7500, False),
        (2500, 7500, True),
    }
    wanted = sum(slot_of(b"fraud", key) < 2500 for key in keys)
    assert arms["v4"].counts == ((200, "ok", True, wanted),)
    assert arms["v4"].arm.digest == "digest-v4"
    assert arms["v4"].duration.count == arms["v4"].upstream.count == wanted
    assert arms["v4"].duration.total >= arms["v4"].upstream.total > 0


def test_only_posts_are_observations(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    router.ask(request(b"GET", b"/models/fraud/x"), "GET")

    assert [batch.counts for batch in router.outcomes()] == [((200, "ok", False, 1),)]


def test_requests_that_were_not_given_to_a_version_are_not_its_outcomes(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub), max_body=10))

    router.ask(post(b"x" * 11))
    router.ask(post(path=b"/models/fraud/../x"))

    assert router.outcomes() == []
