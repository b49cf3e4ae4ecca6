"""Requests that are malformed, and how the good ones are framed (rules 2 to 6)."""

from __future__ import annotations

import json

import pytest

from tests.support.dataplane import Client, Response, Router, Wire, answer, chunked, model, post, request, target
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.wait import eventually

BEHIND = b"POST /models/fraud/smuggled HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
"""A request behind a malformed one: it must never be answered, nor reach a server."""

CHUNKED = b"transfer-encoding: chunked"


def refused_and_closed(client: Client, status: int = 400) -> Response:
    """The one answer to a request that is refused; then the connection must end in an orderly way."""
    response = client.response()
    assert response.status == status
    assert response.header("content-type") == "application/problem+json"
    assert response.header("connection") == "close"
    assert client.ended()
    return response


def head(
    *lines: bytes, first: bytes = b"POST /models/fraud/invocations HTTP/1.1", host: bytes = b"host: a\r\n"
) -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


MALFORMED = {
    "coding and length": head(CHUNKED, b"content-length: 5") + chunked(b"hello"),
    "length and coding": head(b"content-length: 5", CHUNKED) + chunked(b"hello"),
    "differing lengths": head(b"content-length: 5", b"content-length: 6") + b"hello!",
    "repeated lengths": head(b"content-length: 5", b"Content-Length: 5") + b"hello",
    "list of lengths": head(b"content-length: 5, 5") + b"hello",
    "signed length": head(b"content-length: +5") + b"hello",
    "negative length": head(b"content-length: -5") + b"hello",
    "hexadecimal length": head(b"content-length: 0x5") + b"hello",
    "length with underscore": head(b"content-length: 1_0") + b"hellohello",
    "empty length": head(b"content-length:") + b"hello",
    "huge length": head(b"content-length: 99999999999999999999999") + b"hello",
    "two codings": head(b"transfer-encoding: gzip, chunked") + chunked(b"hello"),
    "another coding": head(b"transfer-encoding: gzip") + b"hello",
    "identity": head(b"transfer-encoding: identity") + b"hello",
    "chunked twice": head(b"transfer-encoding: chunked, chunked") + chunked(b"hello"),
    "coding twice": head(CHUNKED, CHUNKED) + chunked(b"hello"),
    "quoted coding": head(b'transfer-encoding: "chunked"') + chunked(b"hello"),
    "empty coding": head(b"transfer-encoding:") + chunked(b"hello"),
    "coding with a vertical tab": head(b"transfer-encoding: \x0bchunked") + chunked(b"hello"),
    "coding with a parameter": head(b"transfer-encoding: chunked;q=1") + chunked(b"hello"),
    "space before the colon": head(b"content-length : 5") + b"hello",
    "coding on HTTP/1.0": head(CHUNKED, first=b"POST /models/fraud/invocations HTTP/1.0") + chunked(b"hello"),
    "obs-fold": head(b"x-a: 1\r\n  2", b"content-length: 0"),
    "folded first header": head(host=b" host: a\r\n"),
    "no host": head(b"content-length: 0", host=b""),
    "two hosts": head(b"host: b", b"content-length: 0"),
    "the same host twice": head(b"Host: a", b"content-length: 0"),
    "host with a space": head(host=b"host: a b\r\n"),
    "host with a tab": head(host=b"host: a\tb\r\n"),
    "empty host": head(host=b"host:\r\n"),
    "blank host": head(host=b"host: \t \r\n"),
    "tab behind a name": head(b"x-a\t: b", b"content-length: 0"),
    "tab in the first line": head(b"content-length: 0", first=b"POST\t/models/fraud/invocations HTTP/1.1"),
    "tab before the version": head(b"content-length: 0", first=b"POST /models/fraud/invocations\tHTTP/1.1"),
    "tab in a length": head(b"content-length: 1\t1"),
    "tab in a coding": head(b"transfer-encoding: chun\tked"),
    "host with a path": head(host=b"host: a/b\r\n"),
    "host with a user": head(host=b"host: a@b\r\n"),
    "carriage return in a value": head(b"x-a: 1\r2", b"content-length: 0"),
    "line feed in a value": head(b"x-a: 1\n2", b"content-length: 0"),
    "NUL in a value": head(b"x-a: 1\x002", b"content-length: 0"),
    "NUL in a name": head(b"x\x00a: 1", b"content-length: 0"),
    "space in a name": head(b"x a: 1", b"content-length: 0"),
    "no name": head(b": 1", b"content-length: 0"),
    "no colon": head(b"x-a", b"content-length: 0"),
    "bare line feeds": head(b"content-length: 0").replace(b"\r\n", b"\n"),
    "CONNECT": head(first=b"CONNECT example.test:443 HTTP/1.1"),
    "no version": head(first=b"POST /models/fraud/invocations"),
    "HTTP/0.9": b"GET /models/fraud/x\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": head(first=b"GET /models/fraud/x HTTP/1.2"),
    "HTTP/3.0": head(first=b"GET /models/fraud/x HTTP/3.0"),
    "lower-case protocol": head(first=b"GET /models/fraud/x http/1.1"),
    "unknown method": head(first=b"BREW /models/fraud/x HTTP/1.1"),
    "lower-case method": head(first=b"post /models/fraud/x HTTP/1.1"),
    "space in the target": head(first=b"GET /models/fraud/x y HTTP/1.1"),
    "control character in the target": head(first=b"GET /models/fraud/\x01 HTTP/1.1"),
    "NUL in the target": head(first=b"GET /models/fraud/\x00 HTTP/1.1"),
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "chunk size with a sign": head(CHUNKED) + b"+5\r\nhello\r\n0\r\n\r\n",
    "chunk size that is no number": head(CHUNKED) + b"xyz\r\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": head(CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n",
    "no chunk size": head(CHUNKED) + b"\r\nhello\r\n0\r\n\r\n",
    "huge chunk size": head(CHUNKED) + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "chunk longer than it says": head(CHUNKED) + b"3\r\nhello\r\n0\r\n\r\n",
    "chunk ended by a line feed": head(CHUNKED) + b"5\nhello\r\n0\r\n\r\n",
    "chunk data ended by a line feed": head(CHUNKED) + b"5\r\nhello\n0\r\n\r\n",
    "NUL in a chunk extension": head(CHUNKED) + b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
    "obs-fold in a trailer": head(CHUNKED) + b"0\r\nx: 1\r\n 2\r\n\r\n",
    "length in a trailer": head(CHUNKED) + b"0\r\ncontent-length: 5\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_request_is_refused_and_what_follows_is_not_read(
    router: Router, stub: StubUpstream, data: bytes
) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(data + BEHIND)

    response = refused_and_closed(client)
    assert json.loads(response.body)["type"] == "urn:canary-router:problem:malformed-request"
    assert response.header("proxy-status") == "canary-router; error=http_request_error"
    assert not stub.requests


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_good_request_before_a_malformed_one_is_answered_first(
    router: Router, stub: StubUpstream, data: bytes
) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(post(b"good") + data + BEHIND)

    assert client.response().status == 200
    refused_and_closed(client)
    assert [seen.body for seen in stub.requests] == [b"good"]


def test_a_broken_chunk_ends_a_streamed_upload_upstream(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), buffer=4))
    client = router.connect()
    client.send(head(CHUNKED) + b"8\r\nlong one\r\n")
    served = wire.accept()
    served.request_head()
    assert served.chunk() == b"long one"

    client.send(b"zz\r\n" + BEHIND)

    refused_and_closed(client)
    served.gone()
    assert b"0\r\n" not in served.buffer


# -- empty lines and chunks


def test_empty_lines_before_a_request_are_skipped(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    assert client.ask(b"\r\n\r\n" + post(b"1")).status == 200
    assert client.ask(b"\r\n" + post(b"2")).status == 200


@pytest.mark.parametrize(
    "body", [b"5;a=b;c\r\nhello\r\n0\r\n\r\n", b"0005\r\nhello\r\n000\r\n\r\n", b"2\r\nhe\r\n3;x\r\nllo\r\n0;y\r\n\r\n"]
)
def test_chunks_are_framed_anew(router: Router, stub: StubUpstream, body: bytes) -> None:
    router.serve(model(target("v3", stub)))

    assert router.ask(post(b"", b"Transfer-Encoding: Chunked", length=False) + body).status == 200

    seen = stub.requests[0]
    assert seen.body == b"hello"
    assert seen.all_headers("content-length") == ["5"]
    assert seen.header("transfer-encoding") is None


@pytest.mark.parametrize("part", [b"5;" + b"e" * 100_000, b"5\r\nhello\r\n0\r\n" + b"x-trailer: e\r\n" * 8000])
@pytest.mark.parametrize("buffer", [1024, 2])
def test_chunk_extensions_and_trailers_are_capped(router: Router, stub: StubUpstream, part: bytes, buffer: int) -> None:
    router.serve(model(target("v3", stub), buffer=buffer))
    client = router.connect()
    client.send(head(CHUNKED) + b"4\r\n")

    client.send(b"body\r\n" + part)
    while client.silent(0.02):
        client.send(part)

    assert client.response().status == 400
    assert not stub.requests


@pytest.mark.parametrize("behind", [b"", b"\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n0\r\n\r\n" + BEHIND])
@pytest.mark.parametrize("buffer", [1024, 2])
def test_a_chunk_extension_that_comes_with_the_head_is_capped(
    router: Router, stub: StubUpstream, behind: bytes, buffer: int
) -> None:
    router.serve(model(target("v3", stub), buffer=buffer))
    client = router.connect()

    client.send(head(CHUNKED) + b"5;" + b"e" * 65_536 + behind)

    assert client.response().status == 400
    assert client.ended()
    assert not stub.requests


def test_many_tiny_chunks_are_fine(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))

    assert router.ask(post(b"", CHUNKED, length=False) + chunked(*[b"x"] * 20_000)).status == 200

    assert stub.requests[0].body == b"x" * 20_000


def test_an_empty_body_keeps_its_framing(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.ask(post(b""))
    client.ask(request(b"POST", b"/models/fraud/invocations"))
    client.ask(request(b"GET", b"/models/fraud/x"), "GET")
    client.ask(post(b"", CHUNKED, length=False) + chunked())

    assert [seen.all_headers("content-length") for seen in stub.requests] == [["0"], [], [], ["0"]]


# -- Expect


class TestExpect:
    """Rule 4."""

    def test_100_comes_before_the_body(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))
        client = router.connect()
        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 5", b"Expect: 100-Continue"))

        assert client.head().status == 100
        assert not stub.requests
        assert client.ask(b"hello").status == 200
        assert stub.requests[0].body == b"hello"
        assert stub.requests[0].header("expect") is None

    def test_a_body_that_is_there_needs_no_100(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))

        assert router.ask(post(b"hello", b"expect: 100-continue")).status == 200

    def test_a_chunked_body_may_be_expected_too(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))
        client = router.connect()
        client.send(request(b"POST", b"/models/fraud/invocations", CHUNKED, b"expect: 100-continue"))

        assert client.head().status == 100
        assert client.ask(chunked(b"hello")).status == 200

    @pytest.mark.parametrize(
        ("path", "length", "status"),
        [
            (b"/models/other/invocations", 5, 404),
            (b"/models/fraud/../x", 5, 400),
            (b"/models/fraud/invocations", 101, 413),
        ],
    )
    def test_what_is_not_admitted_gets_its_final_status(
        self, router: Router, stub: StubUpstream, path: bytes, length: int, status: int
    ) -> None:
        router.serve(model(target("v3", stub), max_body=100))
        client = router.connect()

        client.send(request(b"POST", path, b"content-length: %d" % length, b"expect: 100-continue"))

        refused_and_closed(client, status)

    def test_a_version_that_is_not_ready_is_said_at_once(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub, state="unready")))
        client = router.connect()

        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 5", b"expect: 100-continue"))

        refused_and_closed(client, 503)

    def test_another_expectation_fails(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))
        client = router.connect()

        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 5", b"expect: 200-ok"))

        refused_and_closed(client, 417)

    def test_http_10_gets_no_100(self, router: Router, stub: StubUpstream) -> None:
        router.serve(model(target("v3", stub)))
        client = router.connect()
        client.send(request(b"POST", b"/models/fraud/x", b"content-length: 2", b"expect: 100-continue", version=b"1.0"))
        client.send(b"{}")

        assert client.response().status == 200


# -- bodiless responses


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_204_and_304_have_no_body(router: Router, wire: Wire, status: bytes, pieces: int) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    for number in range(2):
        client.send(request(b"GET", b"/models/fraud/x"))
        served, _ = wire.get()
        response = answer(b"", b"etag: x", status=status, length=False)
        for start in range(pieces):
            served.send(response[start * 20 : (start + 1) * 20] if pieces > 1 and not start else response[start * 20 :])

        got = client.response("GET")
        assert got.status == int(status[:3])
        assert got.header("transfer-encoding") is None
        assert got.header("content-length") is None
        assert served.number == 1, f"request {number} took another connection"


def test_304_keeps_the_length_that_a_get_would_have(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(request(b"GET", b"/models/fraud/x"))
    served, _ = wire.get()
    served.send(answer(b"", b"content-length: 99", status=b"304 Not Modified", length=False))

    assert client.response("GET").header("content-length") == "99"

    client.send(request(b"GET", b"/models/fraud/x"))
    served, _ = wire.get()
    served.send(answer(b"whole"))
    assert client.response("GET").body == b"whole"


@pytest.mark.parametrize(
    "framing", [b"content-length: 1234", b"content-length: 0", b"transfer-encoding: chunked", b"x-a: b"]
)
def test_head_has_no_body_and_keeps_the_connections(router: Router, wire: Wire, framing: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    for _ in range(3):
        client.send(request(b"HEAD", b"/models/fraud/x"))
        served, seen = wire.get()
        assert seen.method == "HEAD"
        served.send(answer(b"", framing, length=False))
        response = client.response("HEAD")
        assert response.status == 200
        if b"length" in framing:
            assert response.header("content-length") == framing.partition(b": ")[2].decode()
        else:
            assert response.header("content-length") is None

    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"body"))
    assert client.response().body == b"body"
    assert len(router.clients) == 1
    if b"length" in framing:
        assert wire.connections == 1


@pytest.mark.parametrize("sent", [None, -1, -4, -39])
def test_a_server_that_sends_a_body_for_head_is_not_asked_again_there(
    router: Router, wire: Wire, sent: int | None
) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(request(b"HEAD", b"/models/fraud/x"))
    served, _ = wire.get()
    served.send(answer(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")[:sent])

    assert client.response("HEAD").status == 200
    client.send(post())
    again, _ = wire.get()
    again.send(answer(b"good"))

    assert client.response().body == b"good"
    assert again.number == 2


def test_head_of_a_problem_has_no_body(router: Router) -> None:
    router.serve()
    client = router.connect()

    response = client.ask(request(b"HEAD", b"/models/none/x"), "HEAD")

    assert response.status == 404
    assert int(response.header("content-length") or 0) > 100
    assert client.ask(request(b"HEAD", b"/v2/health/live"), "HEAD").status == 200


# -- upgrades


@pytest.mark.parametrize("connection", [b"Upgrade, HTTP2-Settings", b"upgrade", b"keep-alive, Upgrade", b""])
@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b"x" * 200_000])
def test_h2c_is_ignored(router: Router, stub: StubUpstream, connection: bytes, body: bytes) -> None:
    """Java's own client asks for it with its first request."""
    router.serve(model(target("v3", stub)))
    client = router.connect()
    lines = [b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB"]
    if connection:
        lines.append(b"Connection: " + connection)

    assert client.ask(post(body, *lines)).status == 200
    assert client.ask(post(b"", *lines, CHUNKED, length=False) + chunked(*[body][: len(body)], b"end")).status == 200
    assert client.ask(post(b"after")).status == 200

    assert [seen.body for seen in stub.requests] == [body, body + b"end", b"after"]
    for seen in stub.requests:
        assert {"upgrade", "http2-settings", "connection"}.isdisjoint(name.lower() for name, _ in seen.headers)


def test_h2c_with_its_body_in_pieces(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()
    data = post(b"hello", b"connection: upgrade", b"upgrade: h2c")

    for at in range(0, len(data), 7):
        client.send(data[at : at + 7])
        eventually(lambda: True)

    assert client.response().status == 200
    assert stub.requests[0].body == b"hello"


def test_many_h2c_requests_in_one_go(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(post(b"hello", b"connection: upgrade", b"upgrade: h2c") * 20)

    assert [client.response().status for _ in range(20)] == [200] * 20
    assert [seen.body for seen in stub.requests] == [b"hello"] * 20


def test_thousands_of_h2c_requests_in_one_go_do_not_hurt(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(request(b"GET", b"/models/fraud/x", b"connection: upgrade", b"upgrade: h2c") * 500)

    assert [client.response().status for _ in range(500)] == [200] * 500
    assert len(stub.requests) == 500


@pytest.mark.parametrize("protocol", [b"websocket", b"WebSocket", b"TLS/1.0", b"h2c, websocket"])
def test_other_upgrades_are_refused(router: Router, stub: StubUpstream, protocol: bytes) -> None:
    router.serve(model(target("v3", stub)))
    lines = (b"connection: Upgrade", b"upgrade: " + protocol, b"sec-websocket-version: 13")

    response = router.ask(request(b"GET", b"/models/fraud/x", *lines), "GET")

    assert response.status == 501
    assert response.header("proxy-status") == "canary-router; error=http_upgrade_failed"
    assert not stub.requests


# -- HTTP/1.0


def test_http_10_is_served_and_closed(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(request(b"POST", b"/models/fraud/x", b"content-length: 2", b"connection: keep-alive", version=b"1.0"))
    client.send(b"{}")

    response = client.response()
    assert response.status == 200
    assert response.header("connection") == "close"
    assert client.ended()


def test_http_10_gets_a_streamed_response_without_chunks(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(chunks=(b"one", b"two", b"three"), pause=0.01)
    router.serve(model(target("v3", stub)))
    client = router.connect()
    client.send(request(b"GET", b"/models/fraud/x", version=b"1.0"))

    head_of_response = client.head()

    assert head_of_response.header("transfer-encoding") is None
    assert head_of_response.header("content-length") is None
    assert client.to_end() == b"onetwothree"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_connection_close_is_obeyed(router: Router, stub: StubUpstream, version: bytes) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    client.send(request(b"GET", b"/models/fraud/x", b"Connection: close", version=version))

    assert client.response("GET").header("connection") == "close"
    assert client.ended()
    assert stub.requests[0].header("connection") is None
