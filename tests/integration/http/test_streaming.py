"""Bodies that stream, connections that end early, and connections that are used again (rules 10 to 14)."""

from __future__ import annotations

import hashlib
import json
import resource
import ssl
import threading
import time
from pathlib import Path

import pytest
import trustme

from router.dataplane.streams import UPLOAD
from router.dataplane.timers import NEVER
from tests.support.dataplane import (
    ClosedError,
    Router,
    Served,
    Wire,
    answer,
    chunked,
    endpoint,
    model,
    post,
    request,
    settled,
    target,
)
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.wait import eventually

CHUNKED = b"transfer-encoding: chunked"
MIB = 1024 * 1024


def memory() -> int:
    """The most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- responses


def test_server_sent_events_arrive_one_by_one(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"", b"content-type: text/event-stream", CHUNKED, length=False))

    head = client.head()
    assert head.header("content-type") == "text/event-stream"
    for number in range(5):
        event = b"data: %d\n\n" % number
        served.send(b"%x\r\n%b\r\n" % (len(event), event))
        assert client.chunk() == event
    served.send(b"0\r\n\r\n")

    assert client.chunk() == b""
    assert client.silent(0.05)


def test_a_response_with_a_length_streams_with_it(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    whole = answer(b"0123456789")

    served.send(whole[:-9])
    head = client.head()
    assert head.header("content-length") == "10"
    assert head.header("transfer-encoding") is None
    assert client.exactly(1) == b"0"
    served.send(whole[-9:])

    assert client.exactly(9) == b"123456789"
    assert router.counts() == {"v3": {(200, "ok"): 1}}


def test_a_response_without_framing_ends_with_its_connection(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()

    served.send(answer(b"until the end", length=False))
    served.close()

    assert client.response().body == b"until the end"
    client.send(post())
    served, _ = wire.get()
    assert served.number == 2
    served.send(answer(b"whole", b"connection: close"))
    served.close()
    assert client.response().body == b"whole"


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_interim_responses_are_not_the_answer(router: Router, wire: Wire, interim: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()

    served.send(answer(b"", b"link: </x>", b"connection: x-a", status=interim, length=False))
    served.send(answer(b"real", b"x-a: kept"))

    response = client.response()
    assert (response.status, response.body) == (200, b"real")
    assert response.header("link") is None
    assert response.header("x-a") == "kept"
    client.send(post())
    again, _ = wire.get()
    assert again is served
    again.send(answer())
    assert client.response().status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_download_of_50_mb_is_whole_and_takes_little_memory(router: Router, wire: Wire, framing: str) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    piece = hashlib.sha256(b"x").digest() * 2048  # 64 KiB
    times = 800

    def serve() -> None:
        served, _ = wire.get()
        if framing == "length":
            served.send(answer(b"", b"content-length: %d" % (times * len(piece)), length=False))
        else:
            served.send(answer(b"", CHUNKED, length=False))
        for _ in range(times):
            served.send(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
        served.send(b"" if framing == "length" else b"0\r\n\r\n")

    before = memory()
    server = threading.Thread(target=serve)
    server.start()
    client.send(post())
    assert client.head().status == 200
    digest, wanted = hashlib.sha256(), hashlib.sha256(piece * times).hexdigest()
    if framing == "length":
        for _ in range(times):
            digest.update(client.exactly(len(piece)))
    else:
        while data := client.chunk():
            digest.update(data)
    server.join()

    assert digest.hexdigest() == wanted
    assert memory() - before < 75 * MIB  # the digest's own 50 MB included


def test_a_client_that_reads_slowly_slows_the_server_down(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect(receive_buffer=4096)
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"", b"content-length: 100000000", length=False))

    sent = served.stuff(100_000_000)

    assert sent < 30 * MIB, "sockets' buffers take some, the router no more than its own"
    assert router.on_loop(lambda: max(c.transport.get_write_buffer_size() for c in router.worker.connections)) < 2 * MIB


def test_a_client_that_reads_slowly_is_not_the_servers_fault(router: Router, wire: Wire) -> None:
    """The deadline bounds the server's silence; while the client does not read, the server is not asked to speak."""
    router.serve(model(target("v3", wire), timeout=0.3, attempt_timeout=0.3))
    client = router.connect(receive_buffer=4096)
    body = b"x" * 20_000_000
    client.send(post())
    served, _ = wire.get()
    sender = threading.Thread(target=served.send, args=(answer(body),))
    sender.start()
    eventually(lambda: router.on_loop(lambda: any(c.blocked_since < NEVER for c in router.worker.connections)))
    until = time.monotonic() + 0.6
    eventually(lambda: time.monotonic() > until)

    assert client.response().body == body
    sender.join()
    assert router.counts() == {"v3": {(200, "ok"): 1}}


def test_silence_in_the_middle_of_a_response_breaks_it_off(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), timeout=0.2, attempt_timeout=0.2))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"", CHUNKED, length=False) + b"5\r\nhello\r\n")

    assert client.head().status == 200
    assert client.chunk() == b"hello"
    assert not client.ended()
    served.gone()
    assert router.counts() == {"v3": {(200, "failure"): 1}}


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("framing", [b"content-length: 100", CHUNKED, b"x-unframed: yes"])
@pytest.mark.parametrize("how", ["closes", "breaks"])
def test_a_server_that_dies_in_the_middle_breaks_the_clients_connection(
    router: Router, wire: Wire, version: bytes, framing: bytes, how: str
) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(request(b"GET", b"/models/fraud/x", version=version))
    served, _ = wire.get()
    served.send(answer(b"", framing, length=False) + (b"5\r\nhello\r\n" if framing == CHUNKED else b"hello"))
    client.head()
    assert client.chunk() == b"hello" if framing != b"content-length: 100" and version == b"1.1" else client.exactly(5)

    if how == "closes":
        served.close()
    else:
        served.reset()

    if framing == b"x-unframed: yes" and how == "closes":
        if version == b"1.1":
            assert client.chunk() == b""
        else:
            assert client.ended()
    else:
        assert not client.ended(), "a clean end would say that this was all"
        assert router.counts() == {"v3": {(200, "failure"): 1}}


@pytest.mark.parametrize(
    "broken",
    [b"zz\r\n", b"5\r\nhello!\r\n", b"0\r\nbad trailer\r\n\r\n", b"-1\r\n\r\n"],
)
def test_a_garbled_body_breaks_the_clients_connection(router: Router, wire: Wire, broken: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"", CHUNKED, length=False) + b"5\r\nhello\r\n")
    client.head()
    assert client.chunk() == b"hello"

    served.send(broken)

    with pytest.raises((ConnectionResetError, ClosedError)):
        list(iter(client.chunk, b""))
    served.gone()


# -- uploads


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_of_50_mb_is_whole_and_takes_little_memory(router: Router, wire: Wire, framing: str) -> None:
    router.serve(model(target("v3", wire), max_body=100 * MIB))
    client = router.connect()
    piece = hashlib.sha256(b"y").digest() * 2048
    times = 800
    got: list[str] = []

    def serve() -> None:
        served = wire.accept()
        head = served.request_head()
        digest = hashlib.sha256()
        if head.header("content-length"):
            for _ in range(times):
                digest.update(served.exactly(len(piece)))
        else:
            while data := served.chunk():
                digest.update(data)
        got.append(digest.hexdigest())
        served.send(answer(b"thanks"))

    before = memory()
    server = threading.Thread(target=serve)
    server.start()
    line = b"content-length: %d" % (times * len(piece)) if framing == "length" else CHUNKED
    client.send(request(b"POST", b"/models/fraud/invocations", line))
    for _ in range(times):
        client.send(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
    client.send(b"" if framing == "length" else b"0\r\n\r\n")

    assert client.response().body == b"thanks"
    server.join()
    assert got == [hashlib.sha256(piece * times).hexdigest()]
    assert memory() - before < 75 * MIB
    assert router.on_loop(lambda: router.worker.held) == 0


def test_a_server_that_takes_slowly_slows_the_client_down(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), max_body=100 * MIB))
    client = router.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 100000000"))

    sent = client.stuff(100_000_000)

    served = wire.accept()
    served.request_head()
    assert sent < 30 * MIB
    assert router.on_loop(lambda: router.worker.held) <= 2 * MIB


def test_a_server_that_never_takes_the_upload_is_504(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), max_body=100 * MIB, timeout=0.4, attempt_timeout=0.4))
    client = router.connect()

    def upload() -> None:
        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 100000000"))
        try:
            client.send(b"x" * 100_000_000)
        except OSError:
            return

    sender = threading.Thread(target=upload)
    sender.start()

    assert client.response().status == 504
    client.close()
    sender.join()
    assert router.counts() == {"v3": {(504, "failure"): 1}}


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"503 Service Unavailable"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_before_the_upload_ends_is_relayed_and_both_connections_close(
    router: Router, wire: Wire, status: bytes, framing: str
) -> None:
    router.serve(model(target("v3", wire), buffer=1000, idempotent=True))
    client = router.connect()
    line = b"content-length: 1000000" if framing == "length" else CHUNKED
    piece = b"x" * 5000
    client.send(request(b"POST", b"/models/fraud/invocations", line))
    client.send(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
    served = wire.accept()
    served.request_head()
    assert (served.exactly(5000) if framing == "length" else served.chunk()) == piece

    served.send(answer(b"early", status=status))

    response = client.response()
    assert (response.status, response.body) == (int(status[:3]), b"early")
    assert response.header("connection") == "close"
    assert client.ended()
    served.gone()
    next_one = router.connect()
    next_one.send(post(b"next"))
    other, seen = wire.get()
    other.send(answer(b"2"))
    assert (other.number, seen.body) == (2, b"next")
    assert next_one.response().body == b"2"


def test_an_early_answer_to_an_upload_that_is_going_on(router: Router, wire: Wire) -> None:
    """The client gets its answer although it is still sending."""
    router.serve(model(target("v3", wire), max_body=100 * MIB))
    client = router.connect()
    failed: list[OSError] = []

    def upload() -> None:
        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 90000000"))
        try:
            client.send(b"x" * 90_000_000)
        except OSError as error:
            failed.append(error)

    sender = threading.Thread(target=upload)
    sender.start()
    served = wire.accept()
    served.request_head()
    served.exactly(3_000_000)
    served.send(answer(b"enough", status=b"413 Content Too Large"))

    assert client.response().body == b"enough"
    sender.join()


# -- clients that go away


def wait_for_attempt(wire: Wire, body: bytes = b"{}") -> Served:
    served, seen = wire.get()
    assert seen.body == body
    return served


@pytest.mark.parametrize("how", ["closes", "breaks"])
@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 200 OK\r\n", answer(b"", CHUNKED, length=False) + b"1\r\na\r\n"])
def test_a_client_that_goes_away_cancels_upstream(router: Router, wire: Wire, how: str, answered: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served = wait_for_attempt(wire)
    served.send(answered)
    if b"\r\n\r\n" in answered:
        client.head()

    if how == "closes":
        client.close()
    else:
        client.reset()

    served.gone(within=1.0)
    eventually(lambda: not router.under_way())
    assert [list(outcome) for outcome in router.counts().values()] == [
        [(200 if b"\r\n\r\n" in answered else 499, "abandoned")]
    ] or answered
    router.serve(model(target("v3", wire)))
    other = router.connect()
    other.send(post())
    assert wait_for_attempt(wire).number == 2, "the connection is not used again"
    wire.served[1].send(answer())
    assert other.response().status == 200


def test_a_client_that_goes_away_during_its_upload_cancels_upstream(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), buffer=10))
    client = router.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 100") + b"x" * 50)
    served = wire.accept()
    served.request_head()
    served.exactly(50)

    client.close()

    served.gone(within=1.0)


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_goes_away_while_requests_wait_cancels_upstream(router: Router, wire: Wire, how: str) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post(b"first") + post(b"second") + b"POST")
    served, seen = wire.get()
    assert seen.body == b"first"

    client.close() if how == "closes" else client.reset()

    served.gone(within=1.0)
    eventually(lambda: not router.under_way())
    assert wire.connections == 1, "the one that waited is not begun"


def test_a_client_that_goes_away_while_its_upload_is_held_back_cancels_upstream(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), buffer=10, max_body=100_000_000))
    client = router.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 100000000"))
    client.stuff(100_000_000)
    served = wire.accept()
    assert router.on_loop(lambda: [connection.held_back for connection in router.worker.connections]) == [UPLOAD]

    client.reset()  # an orderly end would wait behind the upload, where nobody can see it

    eventually(lambda: not router.under_way(), 1.2)
    served.close()


def test_a_client_that_stays_is_not_taken_for_gone(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post(b"first") + post(b"second"))
    served, _ = wire.get()

    assert client.silent(1.2)
    served.send(answer(b"1"))
    served, _ = wire.get()
    served.send(answer(b"2"))

    assert [client.response().body for _ in range(2)] == [b"1", b"2"]


def test_a_client_that_goes_away_before_it_is_forwarded_leaves_nothing(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 100") + b"x" * 50)
    eventually(lambda: router.on_loop(lambda: router.worker.held) == 50)

    client.close()

    eventually(lambda: not router.under_way())
    assert wire.connections == 0


# -- connections that are used again


def test_connections_are_used_again_on_both_sides(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    for number in range(50):
        assert client.ask(post(b"%d" % number)).status == 200

    assert stub.connections == 1
    assert [seen.body for seen in stub.requests] == [b"%d" % number for number in range(50)]


def test_as_many_connections_as_requests_under_way(router: Router, stub: StubUpstream) -> None:
    stub.answer = Answer(hold=True)
    router.serve(model(target("v3", stub)))
    clients = [router.connect() for _ in range(8)]

    for _ in range(3):
        stub.hold_again()
        before = len(stub.requests)
        for client in clients:
            client.send(post())
        eventually(lambda before=before: len(stub.requests) == before + 8)  # type: ignore[misc]  # bound on purpose
        stub.release()
        assert [client.response().status for client in clients] == [200] * 8

    assert stub.connections == 8


@pytest.mark.parametrize(
    "closing",
    [answer(b"a", b"connection: close"), b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na"],
    ids=["close", "HTTP/1.0"],
)
def test_a_server_that_says_it_closes_is_not_asked_again_there(router: Router, wire: Wire, closing: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    for number in (1, 2):
        client.send(post())
        served, _ = wire.get()
        assert served.number == number
        served.send(closing)
        assert client.response().body == b"a"
        assert served.ended()


EVIL = answer(b"evil", b"x-evil: yes")


@pytest.mark.parametrize(
    "behind",
    [EVIL, b"evil", EVIL[:10], b"\x00", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["response", "garbage", "part of a response", "NUL", "interim"],
)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first", [answer(b"good"), answer(b"", CHUNKED, length=False) + chunked(b"good")])
def test_bytes_behind_a_response_reach_nobody(
    router: Router, wire: Wire, first: bytes, behind: bytes, together: bool
) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    if together:
        served.send(first + behind)
        assert client.response().body == b"good"
    else:
        served.send(first)
        assert client.response().body == b"good"
        served.send(behind)
    served.gone()

    client.send(post())
    other, _ = wire.get()
    other.send(answer(b"next"))

    assert other.number == 2
    assert client.response().body == b"next"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_body_where_none_may_be_reaches_nobody(router: Router, wire: Wire, status: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(request(b"GET", b"/models/fraud/x"))
    served, _ = wire.get()
    served.send(answer(EVIL, status=status))

    assert client.response("GET").status == int(status[:3])
    client.send(post())
    other, _ = wire.get()
    other.send(answer(b"next"))

    assert other.number == 2
    assert client.response().body == b"next"


def test_a_response_nobody_asked_for_is_dropped(router: Router, wire: Wire) -> None:
    """A server that answers before it was asked must not answer for the next client."""
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer(b"1"))
    assert client.response().body == b"1"
    served.send(EVIL)
    served.gone()

    other = router.connect()
    other.send(post())
    fresh, _ = wire.get()
    fresh.send(answer(b"2"))

    assert other.response().body == b"2"


def test_a_request_upload_that_overtakes_its_answer_leaves_a_clean_connection(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire), buffer=10))
    client = router.connect()
    for number in range(3):
        client.send(request(b"POST", b"/models/fraud/invocations", b"content-length: 100"))
        client.send(b"x" * 60)
        served = wire.accept() if number == 0 else wire.served[0]
        served.request_head()
        served.exactly(60)
        client.send(b"y" * 40)
        served.exactly(40)
        served.send(answer(b"%d" % number))
        assert client.response().body == b"%d" % number


def test_a_server_that_closed_while_idle_is_no_failure_for_an_idempotent_model(
    router: Router, stub: StubUpstream
) -> None:
    router.serve(model(target("v3", stub), idempotent=True))
    client = router.connect()
    for _ in range(5):
        assert client.ask(post()).status == 200
        stub.close_connections()

    assert router.counts() == {"v3": {(200, "ok"): 5}}


@pytest.mark.parametrize("how", ["closes", "breaks"])
def test_a_reused_connection_that_dies_before_any_byte_is_no_failure_for_an_idempotent_model(
    router: Router, wire: Wire, how: str
) -> None:
    router.serve(model(target("v3", wire), idempotent=True))
    client = router.connect()
    client.send(post(b"1"))
    served, _ = wire.get()
    served.send(answer())
    assert client.response().status == 200

    client.send(post(b"2"))
    again, _ = wire.get()
    assert again is served
    served.close() if how == "closes" else served.reset()
    fresh, seen = wire.get()
    fresh.send(answer())

    assert (fresh.number, seen.body) == (2, b"2")
    assert client.response().status == 200
    (batch,) = router.outcomes()
    assert (batch.counts, batch.retries) == (((200, "ok", True, 2),), 0)


def test_a_reused_connection_that_dies_is_502_where_nothing_may_be_sent_twice(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post(b"1"))
    served, _ = wire.get()
    served.send(answer())
    assert client.response().status == 200

    client.send(post(b"2"))
    wire.get()[0].close()

    assert client.response().status == 502
    assert wire.connections == 1


def test_idle_connections_are_given_up_before_servers_do(router: Router, wire: Wire) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()
    client.send(post())
    served, _ = wire.get()
    served.send(answer())
    client.response()

    def age() -> None:
        for pool in router.worker.pools._pools.values():
            for connection in pool.idle:
                connection.idle_since -= 3.01

    router.on_loop(age)

    assert served.ended()


# -- other networks


def test_a_unix_socket_is_a_server_too(router: Router, tmp_path: Path) -> None:
    with Wire("unix", path=tmp_path / "model.sock") as wire:
        router.serve(model(target("v3", wire)))
        client = router.connect()
        for _ in range(2):
            client.send(post())
            served, seen = wire.get()
            served.send(answer(b"from a socket"))
            assert client.response().body == b"from a socket"
            assert seen.header("host") == "localhost"
        assert wire.connections == 1


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the test's certificates."""
    return trustme.CA()


@pytest.mark.parametrize(
    ("name", "signed", "status"),
    [("localhost", True, 200), ("other.test", True, 502), ("localhost", False, 502)],
)
def test_tls_servers_must_prove_their_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA,
    name: str,
    signed: bool,
    status: int,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (authority if signed else trustme.CA()).issue_cert("localhost").configure_cert(context)
    (tmp_path / "run").mkdir()
    with Router(tmp_path / "run") as router, settled(router), Wire("tls", context=context) as wire:
        router.serve(model(target("v3", endpoint(wire, server_name=name))))
        client = router.connect()
        client.send(post(b"secret"))
        if status == 200:
            served = wire.accept()
            assert served.request().body == b"secret"
            served.send(answer(b"encrypted"))
        else:
            with pytest.raises(ssl.SSLError):
                wire.accept()

        response = client.response()

        assert response.status == status
        if status == 502:
            assert json.loads(response.body)["type"] == "urn:canary-router:problem:upstream-tls"
            assert response.header("proxy-status") == "canary-router; error=tls_certificate_error"
        else:
            assert response.body == b"encrypted"
