"""Paths, limits, and what becomes of connections."""

from __future__ import annotations

from tests.support.corpus.case import ASKED, CHUNKED, HELLO, LENGTH, POSTED, Case, get, passed, post, refused
from tests.support.peers import Got

# Why another proxy may judge otherwise.
KEEP_10 = "RFC 9112 9.3: keep-alive on HTTP/1.0 is optional; we close"
DOTS = (
    "RFC 3986 6.2.2.3 lets a server resolve dot segments, so they could leave the model's prefix; passed on elsewhere"
)
OTHER_MODEL = "RFC 9110 4.2.3: not the model's path as it is spelt, and we never decode; passed on elsewhere"
ESCAPES = "RFC 3986 2.1: no escape, or one of NUL, which 7.3 warns of; refused here and by nginx, which decodes paths"
ASCII = "RFC 9112 3.2: a target is ASCII; nginx passes it on, and a strict server refuses that"
FRAGMENT = "RFC 9112 3.2: a target has no fragment; we pass `#` on as it was sent, as nginx does"
LIMITS = "RFC 9112 3, RFC 9110 5.4: limits are everybody's own affair; ours are 8 KiB of URL, 32 KiB of head, 100 lines"
SIZE = "RFC 9110 15.5.14: over our limit for bodies; HAProxy has none, and nginx lingers with its end open"
NOMINATED = "RFC 9110 7.6.1: Connection is a list of names; one that is not could hide some"
EXPECT = "RFC 9110 10.1.1 lets an unknown expectation be answered with 417; passed on elsewhere"
UPGRADE = "RFC 9110 7.8 lets an upgrade be ignored; we say that there is none, the client would wait for frames"
EARLY = "RFC 9112 9.5 asks a client to stop sending; we close at once, HAProxy waits for it to"

CASES: dict[str, Case] = {
    # -- paths
    "dot segment": refused(get(b"/../other/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment, encoded": refused(get(b"/%2e%2e/other/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment, half encoded": refused(get(b"/.%2E/other/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment, encoded twice": refused(get(b"/%252e%252e/other/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment with an encoded slash": refused(get(b"/..%2fother/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment with a backslash": refused(get(b"/..\\other/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment with parameters": refused(get(b"/..;a=b/other/x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dot segment at the end": refused(get(b"/x/.."), kept=True, nginx=DOTS, haproxy=DOTS),
    "single dot": refused(get(b"/./x"), kept=True, nginx=DOTS, haproxy=DOTS),
    "dots in a name": passed(get(b"/a..b/..."), Got(b"GET", b"/a..b/...")),
    "dot segment in the query": passed(get(b"/x?y=/../z"), Got(b"GET", b"/x?y=/../z")),
    "encoded slash in the model": refused(
        b"GET /models%2ffraud/x HTTP/1.1\r\nhost: a\r\n\r\n", 404, kept=True, nginx=OTHER_MODEL, haproxy=OTHER_MODEL
    ),
    "encoded letter in the model": refused(
        b"GET /models/fr%61ud/x HTTP/1.1\r\nhost: a\r\n\r\n", 404, kept=True, nginx=OTHER_MODEL, haproxy=OTHER_MODEL
    ),
    "two slashes first": refused(
        b"GET //models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n", 404, kept=True, nginx=OTHER_MODEL, haproxy=OTHER_MODEL
    ),
    "two slashes": passed(get(b"//x"), Got(b"GET", b"//x")),
    "escape of nothing": refused(get(b"/%"), haproxy=ESCAPES),
    "escape cut off": refused(get(b"/a%2"), haproxy=ESCAPES),
    "escape of no number": refused(get(b"/%zz"), haproxy=ESCAPES),
    "escape of NUL": refused(get(b"/%00"), haproxy=ESCAPES),
    "escape of nothing in the query": passed(get(b"/x?a=%"), Got(b"GET", b"/x?a=%")),
    "escape of a line end": passed(get(b"/x%0d%0ahost:%20b"), Got(b"GET", b"/x%0d%0ahost:%20b")),
    "NUL in the target": refused(get(b"/\x00")),
    "control character in the target": refused(get(b"/\x01")),
    "UTF-8 in the target": refused(get(b"/caf\xc3\xa9"), nginx=ASCII),
    "fragment": passed(get(b"/x#y"), Got(b"GET", b"/x#y"), haproxy=FRAGMENT),
    "quotes and brackets": passed(get(b'/"<x>{|}^`'), Got(b"GET", b'/"<x>{|}^`')),
    "no slash first": refused(b"GET models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n"),
    # -- limits
    "URL of 7 KiB": passed(get(b"/" + b"x" * 7 * 1024), Got(b"GET", b"/" + b"x" * 7 * 1024)),
    "URL of 9 KiB": refused(get(b"/" + b"x" * 9 * 1024), 414, haproxy=LIMITS),
    "URL of 64 KiB": refused(get(b"/" + b"x" * 64 * 1024), 414),
    "header of 7 KiB": passed(get(b"/x", b"x-a: " + b"a" * 7 * 1024), ASKED),
    "header of 64 KiB": refused(get(b"/x", b"x-a: " + b"a" * 64 * 1024), 431),
    "90 headers": passed(get(b"/x", *[b"x-%d: 1" % n for n in range(90)]), ASKED),
    "200 headers": refused(get(b"/x", *[b"x-%d: 1" % n for n in range(200)]), 431, nginx=LIMITS),
    "body over the limit": refused(post(b"content-length: 11000000") + b"hello", 413, nginx=SIZE, haproxy=SIZE),
    # -- connections
    "pipelined": passed(
        get(b"/1") + get(b"/2") + get(b"/3"), Got(b"GET", b"/1"), Got(b"GET", b"/2"), Got(b"GET", b"/3")
    ),
    "pipelined with bodies": passed(
        post(LENGTH) + b"hello" + post(CHUNKED) + HELLO + get(b"/x"), POSTED, POSTED, ASKED
    ),
    "pipelined behind a close": passed(get(b"/1", b"connection: close") + get(b"/2"), Got(b"GET", b"/1"), kept=False),
    "pipelined behind a refusal": refused(get(b"/1", b"no colon") + get(b"/2")),
    "refused behind a good one": passed(
        get(b"/1") + get(b"/2", b"no colon"), Got(b"GET", b"/1"), kept=False, statuses=(200, 400)
    ),
    "20 pipelined": passed(get(b"/x") * 20, *[ASKED] * 20),
    "close": passed(get(b"/x", b"connection: close"), ASKED, kept=False),
    "close in capitals in a list": passed(get(b"/x", b"connection: Keep-Alive, CLOSE"), ASKED, kept=False),
    "HTTP/1.0": passed(get(b"/x", version=b"1.0"), ASKED, kept=False),
    "HTTP/1.0 with keep-alive": passed(
        get(b"/x", b"connection: keep-alive", version=b"1.0"), ASKED, kept=False, nginx=KEEP_10, haproxy=KEEP_10
    ),
    "HTTP/1.0 with a body": passed(post(LENGTH, version=b"1.0") + b"hello", POSTED, kept=False),
    "Connection that is no list of names": refused(
        get(b"/x", b"connection: a b"), kept=True, nginx=NOMINATED, haproxy=NOMINATED
    ),
    "HEAD": passed(get(b"/x", method=b"HEAD"), Got(b"HEAD", b"/x")),
    "HEAD with a body": passed(get(b"/x", LENGTH, method=b"HEAD") + b"hello", Got(b"HEAD", b"/x", b"hello")),
    "DELETE": passed(get(b"/x", method=b"DELETE"), Got(b"DELETE", b"/x")),
    "expectation": passed(post(LENGTH, b"expect: 100-continue") + b"hello", POSTED),
    "expectation without a body": passed(get(b"/x", b"expect: 100-continue"), ASKED),
    "another expectation": refused(
        post(LENGTH, b"expect: 200-maybe") + b"hello", 417, kept=True, nginx=EXPECT, haproxy=EXPECT
    ),
    "upgrade to h2c": passed(
        get(b"/x", b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"), ASKED
    ),
    "upgrade to h2c with a body": passed(post(LENGTH, b"connection: upgrade", b"upgrade: h2c") + b"hello", POSTED),
    "upgrade to WebSocket": refused(
        get(
            b"/x",
            b"connection: upgrade",
            b"upgrade: websocket",
            b"sec-websocket-version: 13",
            b"sec-websocket-key: AAAA",
        ),
        501,
        kept=True,
        nginx=UPGRADE,
        haproxy=UPGRADE,
    ),
    "upgrade that Connection does not name": refused(
        get(b"/x", b"upgrade: websocket"), 501, kept=True, nginx=UPGRADE, haproxy=UPGRADE
    ),
    "answer with trailers": passed(get(b"/trailers"), Got(b"GET", b"/trailers")),
    "early answer": passed(
        post(b"content-length: 100000", path=b"/models/stream/early") + b"x" * 5000,
        kept=False,
        cut=True,
        statuses=(200,),
        haproxy=EARLY,
    ),
    "early answer, chunked": passed(
        post(CHUNKED, path=b"/models/stream/early") + b"186a0\r\n" + b"x" * 5000,
        kept=False,
        cut=True,
        statuses=(200,),
        haproxy=EARLY,
    ),
}
