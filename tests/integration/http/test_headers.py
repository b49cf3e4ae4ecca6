"""Headers: product.md's table, hop-by-hop headers, forwarding, credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.dataplane import HOST, Router, Wire, answer, chunked, model, post, request, settled, target
from tests.support.stub_upstream import Answer, StubUpstream

PASSED = (
    (b"content-type", b"application/json; charset=utf-8"),
    (b"Authorization", b"Bearer abc"),
    (b"X-Custom", b"  spaces  inside  ".strip()),
    (b"accept-encoding", b"gzip, br"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"a=1,b=2"),
    (b"x-utf8", "käse".encode()),
    (b"x-empty", b""),
    (b"X-Twice", b"1"),
    (b"X-Twice", b"2"),
    (b"cookie", b"a=1; b=2"),
    (b"range", b"bytes=0-1"),
    (b"x-model-version", b"v9"),
    (b"content-encoding", b"gzip"),
)


def test_other_headers_and_the_body_pass_as_they_were_sent(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    body = bytes(range(256))

    router.ask(post(body, *(name + b": " + value for name, value in PASSED)))

    seen = stub.requests[0]
    assert seen.body == body
    for name, value in PASSED:
        assert b"\r\n%b: %b\r\n" % (name, value) in seen.head
    assert seen.all_headers("x-twice") == ["1", "2"]
    assert seen.all_headers("content-length") == ["256"]


def test_host_is_the_upstreams(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    router.ask(post())

    assert stub.requests[0].all_headers("host") == [f"127.0.0.1:{stub.port}"]


HOP_BY_HOP = (
    b"connection: keep-alive, X-Mine, te",
    b"Connection: x-other",
    b"keep-alive: timeout=5",
    b"proxy-connection: keep-alive",
    b"proxy-authorization: Basic x",
    b"proxy-authenticate: Basic",
    b"te: trailers",
    b"trailer: x-checksum",
    b"x-mine: 1",
    b"X-Mine: 2",
    b"x-other: 3",
)


@pytest.mark.parametrize("lines", [HOP_BY_HOP, HOP_BY_HOP[::-1]], ids=["named first", "named last"])
def test_hop_by_hop_headers_end_here(router: Router, stub: StubUpstream, lines: tuple[bytes, ...]) -> None:
    router.serve(model(target("v3", stub)))

    assert router.ask(post(b"{}", b"x-kept: yes", *lines)).status == 200

    names = {name.lower() for name, _ in stub.requests[0].headers}
    assert names.isdisjoint(line.partition(b":")[0].decode().lower() for line in lines)
    assert "x-kept" in names


def test_connection_cannot_nominate_what_the_router_writes_itself(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    named = b"connection: content-length, host, x-request-id, x-forwarded-for, via"
    router.ask(post(b"{}", named, b"x-request-id: abc"))

    seen = stub.requests[0]
    assert seen.body == b"{}"
    for name in ("content-length", "host", "x-request-id", "x-forwarded-for", "via"):
        assert len(seen.all_headers(name)) == 1


def test_connection_that_is_no_list_of_names_is_malformed(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    assert router.ask(post(b"{}", b'connection: "x y"')).status == 400
    assert not stub.requests


HOP_BY_HOP_OF_RESPONSE = (
    b"Connection: keep-alive, x-secret",
    b"Keep-Alive: timeout=5",
    b"Proxy-Authenticate: Basic",
    b"Proxy-Connection: keep-alive",
    b"Upgrade: h2c",
    b"Trailer: x-sum",
    b"TE: trailers",
    b"x-secret: 1",
)


@pytest.mark.parametrize("streamed", [False, True])
def test_hop_by_hop_headers_of_responses_end_here(router: Router, wire: Wire, streamed: bool) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    whole = answer(b"ok", *HOP_BY_HOP_OF_RESPONSE, b"Server: uvicorn", b"x-kept: yes")

    served.send(whole[:-1] if streamed else whole)
    if streamed:
        response = client.head()
        served.send(whole[-1:])
        assert client.exactly(2) == b"ok"
    else:
        response = client.response()

    names = {name for name, _ in response.headers}
    assert names == {"server", "x-kept", "x-model-version", "x-request-id", "content-length"}


@pytest.mark.parametrize("nominated", [b"", b"connection: x-a, x-b, keep-alive"])
def test_trailers_never_become_headers(router: Router, wire: Wire, nominated: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    lines = [nominated, b"x-a: 1", b"x-b: 2"] if nominated else []
    body = chunked(b"hello")[:-2] + b"x-evil: 1\r\nX-Request-Id: forged\r\n\r\n"

    served.send(answer(b"", b"transfer-encoding: chunked", *lines, length=False) + body)

    response = client.response()
    assert response.body == b"hello"
    assert response.header("x-evil") is None
    assert response.header("x-request-id") != "forged"


def test_trailers_of_requests_are_dropped(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()
    trailers = b"x-evil: 1\r\nhost: evil.test\r\nx-request-id: evil\r\nvia: evil\r\n\r\n"

    client.send(post(b"", b"transfer-encoding: chunked", length=False) + chunked(b"hello")[:-2] + trailers)

    assert client.response().status == 200
    assert client.ask(post()).status == 200, "a trailer does not concern the next request"
    first, second = stub.requests
    assert first.body == b"hello"
    assert first.header("x-evil") is None
    assert b"evil" not in first.head + second.head


# -- ids


@pytest.mark.parametrize("sane", [b"abc", b"A-b_c.d:e/f+g=h@i", b"x" * 128, b"0af7651916cd43dd8448eb211c80319c"])
def test_a_sane_request_id_is_the_callers(router: Router, stub: StubUpstream, sane: bytes) -> None:
    router.serve(model(target("v3", stub)))

    response = router.ask(post(b"{}", b"X-Request-ID: " + sane))

    assert response.header("x-request-id") == sane.decode()
    assert stub.requests[0].all_headers("x-request-id") == [sane.decode()]


@pytest.mark.parametrize("odd", [b"", b"x" * 129, b"a b", b"<script>", b'"', b"k\xc3\xa4se", b"a,b"])
def test_any_other_request_id_is_replaced(router: Router, stub: StubUpstream, odd: bytes) -> None:
    router.serve(model(target("v3", stub)))

    made = router.ask(post(b"{}", b"x-request-id: " + odd)).header("x-request-id")

    assert made is not None
    assert re.fullmatch("[0-9a-f]{28}", made)
    assert stub.requests[0].all_headers("x-request-id") == [made]


def test_two_request_ids_are_none(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    made = router.ask(post(b"{}", b"x-request-id: a", b"x-request-id: b")).header("x-request-id")

    assert stub.requests[0].all_headers("x-request-id") == [made]
    assert made not in ("a", "b", "a, b")


def test_new_ids_differ_and_the_servers_own_is_not_the_answers(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(headers=(("x-request-id", "server"), ("x-model-version", "server"), ("x-a", "b")))
    router.serve(model(target("v3", stub)))
    client = router.connect()

    responses = [client.ask(post()) for _ in range(3)]

    assert len({response.header("x-request-id") for response in responses}) == 3
    assert [seen.header("x-request-id") for seen in stub.requests] == [r.header("x-request-id") for r in responses]
    assert {response.header("x-model-version") for response in responses} == {"v3"}
    assert {response.header("proxy-status") for response in responses} == {None}


# -- forwarding headers

FORGED = (
    b"x-forwarded-for: 6.6.6.6",
    b"X-Forwarded-Proto: https",
    b"x-forwarded-host: forged.test",
    b"forwarded: for=6.6.6.6;proto=https",
)


def test_forwarding_headers_of_strangers_are_made_fresh(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    router.ask(post(b"{}", *FORGED))

    seen = stub.requests[0]
    assert seen.all_headers("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all_headers("x-forwarded-proto") == ["http"]
    assert seen.all_headers("x-forwarded-host") == [HOST.decode()]
    assert seen.all_headers("forwarded") == [f'for=127.0.0.1;host="{HOST.decode()}";proto=http']
    assert len(seen.all_headers("via")) == 1


def test_host_may_change_on_one_connection(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    for host in (b"a.test", b"b.test:8080", b"a.test"):
        client.ask(request(b"GET", b"/models/fraud/x", host=host))

    assert [seen.header("x-forwarded-host") for seen in stub.requests] == ["a.test", "b.test:8080", "a.test"]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_each_request_is_forwarded_for_its_own_host(router: Router, stub: StubUpstream, turns: int) -> None:
    """However often the host changes, and however long one had been the same."""
    router.serve(model(target("v3", stub)))
    client = router.connect()
    hosts = [b"ab"[number // turns % 2 :][:1] + b".test" for number in range(60)]

    for host in hosts:
        client.ask(request(b"POST", b"/models/fraud/invocations", b"content-length: 2", host=host) + b"{}")

    assert [seen.header("x-forwarded-host") for seen in stub.requests] == [host.decode() for host in hosts]


def test_http_10_without_host_is_forwarded_too(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    router.ask(request(b"GET", b"/models/fraud/x", *FORGED, version=b"1.0", host=None))

    seen = stub.requests[0]
    assert seen.all_headers("x-forwarded-for") == ["127.0.0.1"]
    assert seen.all_headers("x-forwarded-proto") == ["http"]
    assert len(seen.all_headers("via")) == 1
    assert b"6.6.6.6" not in seen.head
    assert b"forged" not in seen.head


def test_the_authority_of_an_absolute_target_wins_over_host(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.ask(request(b"GET", b"http://inside.test:81/models/fraud/x", host=b"outside.test"))
    client.ask(request(b"GET", b"/models/fraud/x", host=b"outside.test"))

    assert [seen.header("x-forwarded-host") for seen in stub.requests] == ["inside.test:81", "outside.test"]
    assert b"outside.test" not in stub.requests[0].head


def test_an_absolute_target_with_an_odd_authority_is_refused(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    assert router.ask(request(b"GET", b'http://us"er@h/models/fraud/x')).status == 400
    assert not stub.requests


def test_via_names_the_router_after_those_before_it(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    router.ask(post(b"{}", b"via: 1.0 fred", b"Via: 1.1 other.test"))

    (via,) = stub.requests[0].all_headers("via")
    assert re.fullmatch(r"1\.0 fred, 1\.1 other\.test, 1\.1 canary-router-[0-9a-f]{8}", via)


def test_a_loop_is_refused(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    router.ask(post())
    via = stub.requests[0].header("via")
    assert via is not None

    response = router.ask(post(b"{}", b"via: 1.1 other", b"via: " + via.encode()))

    assert response.status == 508
    assert response.header("proxy-status") == "canary-router; error=proxy_loop_detected"
    assert len(stub.requests) == 1


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A worker that trusts every proxy on this machine."""
    with Router(tmp_path_factory.mktemp("run"), trusted=("10.0.0.0/8", "127.0.0.1", "::1")) as router:
        yield router


class TestTrustedProxy:
    """What a proxy says that the operator trusts."""

    @pytest.fixture
    def router(self, trusting: Router) -> Iterator[Router]:
        with settled(trusting):
            yield trusting

    def test_its_word_is_passed_on_and_the_peer_appended(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))

        lines = (b"x-forwarded-for: 1.2.3.4", b"x-forwarded-for: 5.6.7.8", *FORGED[1:])
        router.ask(post(b"{}", *lines))

        seen = stub.requests[0]
        assert seen.all_headers("x-forwarded-for") == ["1.2.3.4, 5.6.7.8, 127.0.0.1"]
        assert seen.all_headers("x-forwarded-proto") == ["https"]
        assert seen.all_headers("x-forwarded-host") == ["forged.test"]
        assert seen.all_headers("forwarded") == [
            f'for=6.6.6.6;proto=https, for=127.0.0.1;host="{HOST.decode()}";proto=https'
        ]

    def test_what_it_does_not_say_is_made_fresh(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))

        router.ask(post(b"{}", b"x-forwarded-proto: https"))
        router.ask(post())

        first, second = stub.requests
        assert first.all_headers("x-forwarded-proto") == ["https"]
        assert first.all_headers("x-forwarded-for") == second.all_headers("x-forwarded-for") == ["127.0.0.1"]
        assert first.all_headers("x-forwarded-host") == [HOST.decode()]
        assert second.all_headers("x-forwarded-proto") == ["http"]


# -- credentials of a version


def test_a_versions_credentials_replace_the_clients(router: Router, stub: StubUpstream) -> None:
    secrets = (("Authorization", "Bearer ours"), ("x-api-key", "k"))
    router.serve(model(target("v3", stub, headers=secrets)))

    router.ask(post(b"{}", b"authorization: Bearer theirs", b"X-Api-Key: theirs", b"x-other: 1"))

    seen = stub.requests[0]
    assert seen.all_headers("authorization") == ["Bearer ours"]
    assert seen.all_headers("x-api-key") == ["k"]
    assert seen.all_headers("x-other") == ["1"]


@pytest.mark.parametrize("named", [b"x-customer-id", b"x-model-version", b"cookie"])
def test_a_header_with_a_meaning_here_may_be_nominated(router: Router, stub: StubUpstream, named: bytes) -> None:
    router.serve(model(target("v3", stub), sticky_header="x-customer-id"))

    router.ask(post(b"{}", b"connection: " + named, named + b": a=1"))

    assert stub.requests[0].header(named.decode()) is None
