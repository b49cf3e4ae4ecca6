"""Heads that repeat: what a form takes, and that it changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.dataplane import headers, repeat
from router.dataplane.headers import CONNECTION, DROPPED, LENGTH, PLAIN, REQUEST_ID, RequestNames
from router.dataplane.repeat import FUTILE, SELDOM, Form, Forms, learn
from tests.support.dataplane import answer
from tests.support.playground import Playground

NAMES = RequestNames()
NAMES.set_sticky([b"x-customer-id"])


def head(*lines: bytes, first: bytes = b"POST /a HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


def parsed(*lines: bytes, length: int = 0, **special: bytes) -> tuple[list[bytes], dict[int | bytes, bytes], int]:
    return [line + b"\r\n" for line in lines], {key.replace("_", "-").encode(): v for key, v in special.items()}, length


def of_request(data: bytes, before: Form | None, expected: Any) -> Form | None:
    return learn(data, before, NAMES.kind_of, expected, request=True)


def test_the_same_head_with_another_body_has_the_form() -> None:
    data = head(b"Host: a", b"A: b", b"Content-Length: 2")
    form = of_request(data, None, parsed(b"A: b", length=2))
    assert form is not None
    assert form.read(data + b"ok") == ([b"A: b\r\n"], {}, b"ok")
    assert form.read(data + b"okk") is None
    assert form.read(data + b"o") is None
    assert form.read(data.replace(b"A", b"B") + b"ok") is None
    assert form.hits == 1


def varying() -> Form:
    """Customer, trace, id and length vary; Host and the rest do not."""

    def data(number: bytes, length: bytes) -> bytes:
        return head(
            b"Host: a", b"x-customer-id: c" + number, b"Trace:  t" + number, b"x-request-id: i" + number,
            b"Content-Length: " + length, b"Last: z",
        )  # fmt: skip

    form = None
    for number, length in ((b"1", b"1"), (b"2", b"20")):
        expected = (
            [b"x-customer-id: c%b\r\nTrace: t%b\r\nLast: z\r\n" % (number, number)],
            {b"x-customer-id": b"c" + number, REQUEST_ID: b"i" + number},
            int(length),
        )
        form = of_request(data(number, length), form, expected)
        assert form is not None
    assert form is not None
    return form


def test_values_that_differed_before_may_differ_again() -> None:
    lines, special, body = varying().read(
        head(
            b"Host: a", b"x-customer-id: anybody", b"Trace:  at 10:00", b"x-request-id: mine", b"Content-Length: 3",
            b"Last: z",
        ) + b"abc"
    ) or ([], {}, b"")  # fmt: skip
    assert b"".join(lines) == b"x-customer-id: anybody\r\nTrace: at 10:00\r\nLast: z\r\n"
    assert special == {b"x-customer-id": b"anybody", REQUEST_ID: b"mine"}
    assert body == b"abc"


@pytest.mark.parametrize("value", [b"", b" a", b"a ", b"a\tb", b"a\nb", b"a\rb", b"a\0", b"\x80", b"a\r\nEvil: b"])
def test_a_value_that_could_mean_more_is_left_to_the_parser(value: bytes) -> None:
    others = b"Trace:  t", b"x-request-id: i", b"Content-Length: 0", b"Last: z"
    assert varying().read(head(b"Host: a", b"x-customer-id: c", *others)) is not None
    assert varying().read(head(b"Host: a", b"x-customer-id: " + value, *others)) is None


@pytest.mark.parametrize("length", [b"+1", b"-1", b"1 1", b"0x1", b"1,1", b"1_0", b"9" * 13, b"2"])
def test_a_length_is_digits_and_that_of_the_body(length: bytes) -> None:
    shared = b"Host: a", b"x-customer-id: c", b"Trace:  t", b"x-request-id: i"
    assert varying().read(head(*shared, b"Content-Length: 1", b"Last: z") + b"x") is not None
    assert varying().read(head(*shared, b"Content-Length: " + length, b"Last: z") + b"x") is None


@pytest.mark.parametrize("line", [b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: h2c"])
def test_what_is_more_than_a_head_and_a_body_has_no_form(line: bytes) -> None:
    assert of_request(head(b"Host: a", line), None, parsed()) is None


def test_where_the_parser_read_something_else_there_is_no_form() -> None:
    assert of_request(head(b"Host: a", b"A: b"), None, parsed(b"A: c")) is None
    assert of_request(head(b"Host: a", b"A: b"), None, parsed(b"A: b", length=1)) is None
    assert of_request(head(b"Host: a", b"x-customer-id: b"), None, parsed(b"x-customer-id: b")) is None
    assert of_request(b"POST /a HTTP/1.1\r\nA: b\r\n", None, parsed(b"A: b")) is None
    assert of_request(head(b"A: " + b"b" * 5000), None, parsed(b"A: " + b"b" * 5000)) is None


@pytest.mark.parametrize(
    ("line", "kind"), [(b"Host: %b", 0), (b"Connection: %b", CONNECTION), (b"Keep-Alive: %b", DROPPED)]
)
def test_what_the_parser_depends_on_never_varies(line: bytes, kind: int) -> None:
    form = None
    for value in (b"a", b"b"):
        expected: Any = ([], {kind: value} if kind else {}, 0)
        form = of_request(head(line % value), form, expected)
        assert form is not None
    assert form is not None
    assert form.read(head(line % b"b")) is not None
    assert form.read(head(line % b"c")) is None


def test_a_status_never_varies() -> None:
    form = None
    for status in (b"200", b"201"):
        first = b"HTTP/1.1 " + status + b" OK"
        data = head(b"A: b", b"Content-Length: 1", first=first)
        kind_of = headers.response_names().kind_of
        form = learn(data, form, kind_of, ([b"A: b\r\n"], {}, 1), request=False)
        assert form is not None
    assert form is not None
    assert form.read(head(b"A: b", b"Content-Length: 1", first=b"HTTP/1.1 202 OK") + b"x") is None


def test_heads_that_keep_changing_are_seldom_learned() -> None:
    forms = Forms()
    assert [forms.worth_learning() for _ in range(FUTILE + 2)] == [True] * FUTILE + [False] * 2
    assert sum(forms.worth_learning() for _ in range(10 * SELDOM)) == 10
    forms.form = Form(b"", frozenset(), b"", 0, [], [], {}, 0, hits=1)
    assert forms.worth_learning()


# -- the same with and without


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


TOKENS = st.sampled_from(
    [b"a", b"b-1", b"two words", b"", b" x ", b"tab\tx", b"\xe4", b"7", b"03", b"chunked", b"close"]
)
LINES = st.tuples(
    st.sampled_from(
        [b"A", b"x-customer-id", b"x-request-id", b"Cookie", b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Via",
         b"X-Forwarded-For", b"Forwarded", b"Content-Length", b"Transfer-Encoding", b"Host", b"Expect", b"TE"]
    ),
    TOKENS,
)  # fmt: skip
REQUESTS = st.tuples(
    st.sampled_from([b"POST /models/fraud/invocations", b"GET /models/fraud/a", b"POST /models/none/invocations"]),
    st.lists(LINES, max_size=3),
    st.sampled_from([b"", b"1", b"12345"]),
)
LIKELY = st.lists(
    st.tuples(TOKENS, st.sampled_from([b"", b"1", b"12345"])).map(
        lambda it: (b"POST /models/fraud/invocations", [(b"x-customer-id", it[0]), (b"A", it[0])], it[1])
    ),
    min_size=2,
    max_size=6,
)


def raw(made: tuple[bytes, list[tuple[bytes, bytes]], bytes]) -> bytes:
    first, lines, body = made
    text = b"".join(b"%b: %b\r\n" % line for line in lines)
    return b"%b HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (first, text, len(body), body)


def outcome(loop: asyncio.AbstractEventLoop, pieces: list[bytes], answers: list[bytes], *, learns: bool) -> Any:
    """What servers and the client get, without what differs in each run: ids, and the time that is left."""
    with mock.patch.object(repeat.Forms, "worth_learning", return_value=learns):
        ground = Playground(loop, answer=answers[0])
        for number, piece in enumerate(pieces):
            ground.answer = answers[number % len(answers)]
            ground.send(piece)
        hits = ground.client.forms.form.hits if ground.client.forms.form else 0
        seen = [
            (
                one.method, one.target, one.body,
                [
                    (name, value)
                    for name, value in one.headers
                    if (name != b"x-request-id" or len(value) < 10) and name != b"x-request-timeout"
                ],
            )
            for one in ground.seen
        ]  # fmt: skip
        ended = ground.transport.closed, ground.transport.ended
        lines = [line for line in ground.transport.written.split(b"\r\n") if b"request" not in line]
        ground.end()
    return (seen, lines, ended), hits


ANSWERS = st.lists(
    st.sampled_from(
        [
            answer(b"one"), answer(b"other", b"Date: Mon, 23 Nov 2026"), answer(b"x", b"X-Request-Id: 1"),
            answer(b"yy", b"Date: Tue, 24 Nov 2026"), answer(b"", b"A: b"), answer(b"z", b"X-Request-Id: 2"),
            answer(b"no", status=b"404 Not Found"), answer(b"end", b"Connection: close"),
        ]
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


@settings(deadline=None, derandomize=True, database=None, max_examples=400)
@given(
    made=st.lists(REQUESTS, min_size=1, max_size=5) | LIKELY,
    points=st.lists(st.integers(0, 3000), max_size=3),
    answers=ANSWERS,
    together=st.booleans(),
)
@example(
    made=[(b"POST /models/fraud/invocations", [(b"A", b"b")], b"1")] * 3,
    points=[],
    answers=[answer(b"k")],
    together=False,
)
@example(
    made=[(b"POST /models/fraud/invocations", [(b"A", b"b")], b"1")] * 3,
    points=[100],
    answers=[answer(b"k")],
    together=True,
)
def test_forms_change_nothing(
    loop: asyncio.AbstractEventLoop, made: list[Any], points: list[int], answers: list[bytes], together: bool
) -> None:
    """Whatever comes, in whatever pieces: with forms and without servers and the client get the same."""
    data = [raw(one) for one in made]
    if together:
        whole = b"".join(data)
        edges = [0, *sorted(point % (len(whole) + 1) for point in points), len(whole)]
        data = [whole[start:end] for start, end in pairwise(edges)]
    plain, _ = outcome(loop, data, answers, learns=False)
    with_forms, _ = outcome(loop, data, answers, learns=True)
    assert with_forms == plain


def test_the_usual_client_is_read_by_its_form(loop: asyncio.AbstractEventLoop) -> None:
    keys = [b"c-%d" % number for number in range(10)]
    data = [raw((b"POST /models/fraud/invocations", [(b"x-customer-id", key)], b"1" * 5)) for key in keys]
    plain, _ = outcome(loop, data, [answer(b"ok")], learns=False)
    with_forms, hits = outcome(loop, data, [answer(b"ok")], learns=True)
    assert with_forms == plain
    assert hits == len(keys) - 2


def test_kinds() -> None:
    assert NAMES.kind_of(b"X-Customer-Id") == headers.STICKY
    assert NAMES.kind_of(b"content-length") == LENGTH
    assert NAMES.kind_of(b"whatever") == PLAIN
