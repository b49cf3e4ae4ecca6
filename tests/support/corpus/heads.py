"""Request lines, field lines and hosts."""

from __future__ import annotations

from tests.support.corpus.case import ASKED, Case, get, passed, refused

# Why another proxy may judge otherwise.
FOLDING = "RFC 9112 5.2 lets a proxy unfold a line or refuse it; we refuse"
LINE_FEED = "RFC 9112 2.2 lets a lone LF end a line; we refuse it, since others see no end there"
CONTROLS = "RFC 9110 5.5 lets a recipient keep or refuse most control characters in a value; we refuse"
NUL = "RFC 9110 5.5: a NUL has to be replaced or refused; here somebody passes it on"
NAMES = "RFC 9110 5.1: a field name is a token; elsewhere such a line is dropped or passed on, here refused"
COLON = "RFC 9112 5: a field line has a colon; elsewhere such a line is dropped, here refused"
SPACES = "RFC 9112 3 lets other white space separate a request line's parts, and lets it be refused"
OLD = "HTTP/0.9 has not been HTTP since RFC 9112; refused here"
VERSIONS = "RFC 9110 6.2 lets a version that is not supported be answered as a lower one or refused; we refuse"
VERSION_FORM = "RFC 9112 2.3: a version is one digit, a dot and one digit"
METHODS = "RFC 9110 9.1: methods are case-sensitive and unknown ones may be refused; we know the registered ones"
CONNECT = "RFC 9110 9.3.6: tunnels are for proxies that mean to be one; we refuse"
TRACE = "RFC 9110 9.3.8: answered by a server with what it got, a version's credentials too; passed on elsewhere"
ASTERISK = "RFC 9112 3.2.4: the target of no model; elsewhere passed on or refused"
NO_HOST = "RFC 9112 3.2 demands 400 without a Host; here somebody passes it on"
EMPTY_HOST = "RFC 9110 4.2.1 gives http no empty host; HAProxy passes one on"
SAME_HOST = "RFC 9112 3.2 demands 400 for more than one Host; here somebody takes equal ones for one"
HOST_FORM = "RFC 9112 3.2 demands 400 for a Host with an invalid value; here somebody passes it on"
KEEP_10 = "RFC 9112 9.3: keep-alive on HTTP/1.0 is optional; we close"
HOSTS_DIFFER = "RFC 9112 3.2.2: the target's authority replaces Host; here somebody refuses unless they agree"
USER = "RFC 9110 4.2.4: an authority with a user is an error to be refused; we keep the connection"
SCHEME = "RFC 9110 7.4: not a target that this server answers for; elsewhere passed on"
NO_PATH = "RFC 9112 3.2.2: a target without a model; elsewhere passed on"

CASES: dict[str, Case] = {
    # -- lines and fields
    "bare line feeds everywhere": refused(
        b"GET /models/fraud/x HTTP/1.1\nhost: a\n\n", nginx=LINE_FEED, haproxy=LINE_FEED
    ),
    "bare line feed behind the request line": refused(
        b"GET /models/fraud/x HTTP/1.1\nhost: a\r\n\r\n", nginx=LINE_FEED, haproxy=LINE_FEED
    ),
    "head ended by a bare line feed": refused(
        b"GET /models/fraud/x HTTP/1.1\r\nhost: a\r\n\n", nginx=LINE_FEED, haproxy=LINE_FEED
    ),
    "bare carriage returns": refused(b"GET /models/fraud/x HTTP/1.1\rhost: a\r\r"),
    "carriage return in a value": refused(get(b"/x", b"x-a: 1\r2")),
    "NUL in a value": refused(get(b"/x", b"x-a: 1\x002"), haproxy=NUL),
    "NUL in a name": refused(get(b"/x", b"x\x00a: 1")),
    "control character in a value": refused(get(b"/x", b"x-a: 1\x012"), nginx=CONTROLS, haproxy=CONTROLS),
    "DEL in a value": refused(get(b"/x", b"x-a: 1\x7f2"), nginx=CONTROLS, haproxy=CONTROLS),
    "Latin-1 in a value": passed(get(b"/x", b"x-a: caf\xe9"), ASKED),
    "UTF-8 in a name": refused(get(b"/x", b"caf\xc3\xa9: 1"), nginx=NAMES),
    "tab in a value": passed(get(b"/x", b"x-a: 1\t2"), ASKED),
    "empty value": passed(get(b"/x", b"x-a:"), ASKED),
    "folded value": refused(get(b"/x", b"x-a: 1\r\n  2"), haproxy=FOLDING),
    "folded value, with a tab": refused(get(b"/x", b"x-a: 1\r\n\t2"), haproxy=FOLDING),
    "folded first line": refused(b"GET /models/fraud/x HTTP/1.1\r\n host: a\r\nhost: b\r\n\r\n"),
    "space before a colon": refused(get(b"/x", b"x-a : 1")),
    "tab before a colon": refused(get(b"/x", b"x-a\t: 1")),
    "space in a name": refused(get(b"/x", b"x a: 1")),
    "no name": refused(get(b"/x", b": 1")),
    "no colon": refused(get(b"/x", b"x-a"), nginx=COLON),
    "brackets in a name": refused(get(b"/x", b"x(a): 1"), nginx=NAMES),
    "every character that a name may have": passed(get(b"/x", b"!#$%&'*+-.^_`|~aZ09: 1"), ASKED),
    "empty lines before the request": passed(b"\r\n\r\n" + get(b"/x"), ASKED),
    "a line feed before the request": passed(b"\n" + get(b"/x"), ASKED),
    "a space before the request": refused(b" " + get(b"/x")),
    # -- request lines
    "two spaces before the target": passed(b"GET  /models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n", ASKED),
    "two spaces behind the target": passed(b"GET /models/fraud/x  HTTP/1.1\r\nhost: a\r\n\r\n", ASKED),
    "tab instead of a space": refused(b"GET\t/models/fraud/x\tHTTP/1.1\r\nhost: a\r\n\r\n", haproxy=SPACES),
    "space behind the version": refused(b"GET /models/fraud/x HTTP/1.1 \r\nhost: a\r\n\r\n", nginx=SPACES),
    "space in the target": refused(b"GET /models/fraud/x y HTTP/1.1\r\nhost: a\r\n\r\n"),
    "no version": refused(b"GET /models/fraud/x\r\nhost: a\r\n\r\n", nginx=OLD),
    "HTTP/0.9": refused(b"GET /models/fraud/x\r\n", nginx=OLD),
    "HTTP/1.2": refused(get(b"/x", version=b"1.2"), nginx=VERSIONS, haproxy=VERSIONS),
    "HTTP/2.0": refused(get(b"/x", version=b"2.0"), haproxy=VERSIONS),
    "HTTP/1.01": refused(get(b"/x", version=b"1.01"), nginx=VERSION_FORM),
    "version in small letters": refused(b"GET /models/fraud/x http/1.1\r\nhost: a\r\n\r\n"),
    "no HTTP": refused(b"GET /models/fraud/x FTP/1.1\r\nhost: a\r\n\r\n"),
    "HTTP/2 preface": refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "method in small letters": refused(b"get /models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n", haproxy=METHODS),
    "unknown method": refused(b"BREW /models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n", nginx=METHODS, haproxy=METHODS),
    "method with a bracket": refused(b"GE(T /models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n"),
    "CONNECT": refused(b"CONNECT router.test:443 HTTP/1.1\r\nhost: router.test:443\r\n\r\n", haproxy=CONNECT),
    "TRACE": refused(b"TRACE /models/fraud/x HTTP/1.1\r\nhost: a\r\n\r\n", 405, haproxy=TRACE),
    "OPTIONS of the server": refused(
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 404, kept=True, nginx=ASTERISK, haproxy=ASTERISK
    ),
    "TLS": refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    # -- hosts
    "no host": refused(get(b"/x", host=None), haproxy=NO_HOST),
    "empty host": refused(get(b"/x", host=b""), haproxy=EMPTY_HOST),
    "two hosts": refused(get(b"/x", b"host: other.test")),
    "the same host twice": refused(get(b"/x", b"host: router.test"), haproxy=SAME_HOST),
    "no host on HTTP/1.0": passed(
        get(b"/x", b"connection: keep-alive", host=None, version=b"1.0"),
        ASKED,
        kept=False,
        nginx=KEEP_10,
        haproxy=KEEP_10,
    ),
    "two hosts on HTTP/1.0": refused(get(b"/x", b"host: other.test", b"connection: keep-alive", version=b"1.0")),
    "host with a space": refused(get(b"/x", host=b"a b"), haproxy=HOST_FORM),
    "host with a slash": refused(get(b"/x", host=b"a/b"), haproxy=HOST_FORM),
    "host with a user": refused(get(b"/x", host=b"user@a"), nginx=HOST_FORM, haproxy=HOST_FORM),
    "host with a port": passed(get(b"/x", host=b"a:80"), ASKED),
    "host with an odd port": passed(get(b"/x", host=b"a:8x"), ASKED),
    "host that is an IPv6 address": passed(get(b"/x", host=b"[::1]:80"), ASKED),
    "list of hosts": refused(get(b"/x", host=b"a, b"), haproxy=HOST_FORM),
    "absolute target": passed(b"GET http://router.test/models/fraud/x HTTP/1.1\r\nhost: router.test\r\n\r\n", ASKED),
    "absolute target, another host": passed(
        b"GET http://router.test/models/fraud/x HTTP/1.1\r\nhost: other.test\r\n\r\n", ASKED, haproxy=HOSTS_DIFFER
    ),
    "absolute target, no host": refused(b"GET http://router.test/models/fraud/x HTTP/1.1\r\n\r\n", haproxy=NO_HOST),
    "absolute target with a user": refused(
        b"GET http://user@router.test/models/fraud/x HTTP/1.1\r\nhost: router.test\r\n\r\n",
        kept=True,
        nginx=USER,
        haproxy=USER,
    ),
    "absolute target of another scheme": refused(
        b"GET gopher://router.test/models/fraud/x HTTP/1.1\r\nhost: router.test\r\n\r\n",
        404,
        kept=True,
        nginx=SCHEME,
        haproxy=SCHEME,
    ),
    "absolute target without a path": refused(
        b"GET http://router.test HTTP/1.1\r\nhost: router.test\r\n\r\n", 404, kept=True, nginx=NO_PATH, haproxy=NO_PATH
    ),
}
