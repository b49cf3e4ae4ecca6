"""Where a message ends: lengths, codings, chunks, and what smuggling makes of them."""

from __future__ import annotations

from tests.support.corpus.case import CHUNKED, HELLO, INNER, LENGTH, POSTED, Case, get, passed, post, refused
from tests.support.peers import Got

# Why another proxy may judge otherwise.
CODING_WINS = "RFC 9112 6.1 lets a server take the coding and drop the length; we refuse what smuggling is made of"
FOLDING = "RFC 9112 5.2 lets a proxy unfold a line or refuse it; we refuse"
LINE_FEED = "RFC 9112 2.2 lets a lone LF end a line; we refuse it, since others see no end there"
CODING_10 = "RFC 9112 6.1: a coding on HTTP/1.0 is faulty framing; it may be taken if the connection closes, we refuse"
TABS = "RFC 9110 5.6.3 counts tabs as white space around a value; here somebody does not, and refuses"
EQUAL = "RFC 9110 8.6 lets equal lengths count as one; we refuse them"
LIST = "RFC 9110 5.6.1 lets empty list members be skipped; we take nothing but `chunked`"
BEHIND = "RFC 9112 2.2: the bytes behind a body are the next request; lenient about what comes before its method"
EXTENSION = "RFC 9112 7.1.1 asks for a limit on chunk extensions; where it lies is everybody's own affair"
SIZE_SPACE = "RFC 9112 7.1.1 knows white space only before an extension; we take none"
SIZE_LIMIT = (
    "RFC 9112 7.1 asks for care with large sizes: nginx refuses when it reads one, we when the body passes the limit"
)
CHUNK_LINE = "RFC 9112 7.1 ends the lines of chunks with CRLF; a lone LF is refused, since others read on"
TRAILER_LF = "RFC 9112 7.1.2: trailers are field lines and end with CRLF; dropped unread elsewhere, refused here"
TRAILER_FRAMING = "RFC 9110 6.5.1 forbids framing fields in trailers; dropped unread elsewhere, refused here"
TRAILER_FORM = "RFC 9112 7.1.2: trailers are field lines; dropped unread elsewhere, refused here"
TRAILER_END = "RFC 9112 7.1.2: the probe's first line is no trailer; dropped unread elsewhere, refused here"

CASES: dict[str, Case] = {
    # -- smuggling: a length and a coding
    "coding and length": refused(post(CHUNKED, LENGTH) + HELLO, haproxy=CODING_WINS),
    "length and coding": refused(post(LENGTH, CHUNKED) + HELLO, haproxy=CODING_WINS),
    "length of the chunks, and coding": refused(post(b"content-length: 15", CHUNKED) + HELLO, haproxy=CODING_WINS),
    "coding hidden by a vertical tab": refused(post(LENGTH, b"transfer-encoding: \x0bchunked") + HELLO),
    "coding hidden by a space before its colon": refused(post(LENGTH, b"transfer-encoding : chunked") + HELLO),
    "coding hidden by a tab before its colon": refused(post(LENGTH, b"transfer-encoding\t: chunked") + HELLO),
    "coding hidden by an underscore": passed(post(LENGTH, b"transfer_encoding: chunked") + b"hello", POSTED),
    "coding on a folded line": refused(
        post(LENGTH, b"x-a: 1\r\n transfer-encoding: chunked") + b"hello", haproxy=FOLDING
    ),
    "coding whose value is folded": refused(post(b"transfer-encoding:\r\n chunked") + HELLO, haproxy=FOLDING),
    "coding behind a bare line feed": refused(
        post(LENGTH, b"x-a: 1\ntransfer-encoding: chunked") + HELLO, haproxy=LINE_FEED
    ),
    "coding behind a bare carriage return": refused(post(LENGTH, b"x-a: 1\rtransfer-encoding: chunked") + b"hello"),
    "length behind a bare line feed": refused(
        post(b"x-a: 1\ncontent-length: 5") + b"hello", nginx=LINE_FEED, haproxy=LINE_FEED
    ),
    "coding with a NUL": refused(post(LENGTH, b"transfer-encoding: chunked\x00") + HELLO),
    "coding in capitals": passed(post(b"Transfer-Encoding: CHUNKED") + HELLO, POSTED),
    "coding without a space": passed(post(b"transfer-encoding:chunked") + HELLO, POSTED),
    "coding between tabs": refused(post(b"transfer-encoding:\tchunked\t") + HELLO, haproxy=TABS),
    "coding with a parameter": refused(post(b"transfer-encoding: chunked;a=b") + HELLO),
    "coding with a comma behind": refused(post(b"transfer-encoding: chunked,") + HELLO, haproxy=LIST),
    "coding in quotes": refused(post(b'transfer-encoding: "chunked"') + HELLO),
    "coding in brackets": refused(post(b"transfer-encoding: [chunked]") + HELLO),
    "coding with a letter more": refused(post(b"transfer-encoding: xchunked") + HELLO),
    "coding with a letter less": refused(post(b"transfer-encoding: chunke") + HELLO),
    "coding twice": refused(post(CHUNKED, CHUNKED) + HELLO),
    "coding twice in one line": refused(post(b"transfer-encoding: chunked, chunked") + HELLO),
    "coding after another": refused(post(b"transfer-encoding: gzip, chunked") + HELLO),
    "coding before another": refused(post(b"transfer-encoding: chunked, gzip") + HELLO),
    "coding after another, on two lines": refused(post(b"transfer-encoding: gzip", CHUNKED) + HELLO),
    "identity": refused(post(b"transfer-encoding: identity", LENGTH) + b"hello"),
    "coding, then identity": refused(post(CHUNKED, b"transfer-encoding: identity") + HELLO),
    "empty coding": refused(post(b"transfer-encoding:", LENGTH) + b"hello"),
    "coding on HTTP/1.0": refused(post(CHUNKED, version=b"1.0") + HELLO, haproxy=CODING_10),
    "coding on a GET": passed(get(b"/x", CHUNKED) + HELLO, Got(b"GET", b"/x", b"hello")),
    "coding nominated by Connection": passed(post(CHUNKED, b"connection: transfer-encoding") + HELLO, POSTED),
    "length nominated by Connection": passed(post(LENGTH, b"connection: content-length") + b"hello", POSTED),
    "a request in the body": passed(
        post(b"content-length: %d" % len(INNER)) + INNER, Got(b"POST", b"/invocations", INNER)
    ),
    "a request in a chunk": passed(
        post(CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER), Got(b"POST", b"/invocations", INNER)
    ),
    "a request behind the last chunk": passed(post(CHUNKED) + HELLO + INNER, POSTED, Got(b"GET", b"/smuggled")),
    "a request behind a body of length 0": passed(
        post(b"content-length: 0") + INNER, Got(b"POST", b"/invocations"), Got(b"GET", b"/smuggled")
    ),
    # -- lengths
    "length": passed(post(LENGTH) + b"hello", POSTED),
    "length with leading zeros": passed(post(b"content-length: 005") + b"hello", POSTED),
    "lengths that differ": refused(post(b"content-length: 5", b"content-length: 6") + b"hello!"),
    "lengths that agree": refused(post(LENGTH, LENGTH) + b"hello", haproxy=EQUAL),
    "lengths in one line": refused(post(b"content-length: 5, 5") + b"hello", haproxy=EQUAL),
    "length with a plus": refused(post(b"content-length: +5") + b"hello"),
    "length with a minus": refused(post(b"content-length: -5") + b"hello"),
    "length in hexadecimal": refused(post(b"content-length: 0x5") + b"hello"),
    "length with a fraction": refused(post(b"content-length: 5.0") + b"hello"),
    "length with an underscore": refused(post(b"content-length: 1_0") + b"hellohello"),
    "length with a space inside": refused(post(b"content-length: 1 0") + b"hellohello"),
    "length with a space behind": passed(post(b"content-length: 5 ") + b"hello", POSTED),
    "length with a tab behind": passed(post(b"content-length: 5\t") + b"hello", POSTED, nginx=TABS),
    "length with a space before its colon": refused(post(b"content-length : 5") + b"hello"),
    "empty length": refused(post(b"content-length:") + b"hello"),
    "length beyond 64 bits": refused(post(b"content-length: 18446744073709551621") + b"hello"),
    "length beyond every number": refused(post(b"content-length: " + b"9" * 60) + b"hello"),
    "length on a GET": passed(get(b"/x", LENGTH) + b"hello", Got(b"GET", b"/x", b"hello")),
    "length longer than the body": passed(
        post(b"content-length: 10") + b"hello",
        Got(b"POST", b"/invocations", b"helloGET /"),
        kept=False,
        statuses=(200, 400),
    ),
    "length shorter than the body": passed(
        post(b"content-length: 3") + b"hello",
        Got(b"POST", b"/invocations", b"hel"),
        kept=False,
        statuses=(200, 400),
        haproxy=BEHIND,
    ),
    "no length and a body": passed(
        post() + b"hello", Got(b"POST", b"/invocations"), kept=False, statuses=(200, 400), haproxy=BEHIND
    ),
    # -- chunks
    "chunks": passed(post(CHUNKED) + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", POSTED),
    "chunk size with leading zeros": passed(post(CHUNKED) + b"0005\r\nhello\r\n0000\r\n\r\n", POSTED),
    "chunk size in capitals": passed(
        post(CHUNKED) + b"A\r\nhellohello\r\n0\r\n\r\n", Got(b"POST", b"/invocations", b"hellohello")
    ),
    "chunk extension": passed(post(CHUNKED) + b"5;a=b\r\nhello\r\n0;c\r\n\r\n", POSTED),
    "chunk extension in quotes": passed(post(CHUNKED) + b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', POSTED),
    "chunk extension with a bare line feed": refused(post(CHUNKED) + b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk extension with a bare carriage return": refused(post(CHUNKED) + b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "chunk extension of 1 MiB": refused(
        post(CHUNKED) + b"5;" + b"a" * 1024 * 1024 + b"\r\nhello\r\n0\r\n\r\n", nginx=EXTENSION
    ),
    "chunk size with a space behind": refused(
        post(CHUNKED) + b"5 \r\nhello\r\n0\r\n\r\n", nginx=SIZE_SPACE, haproxy=SIZE_SPACE
    ),
    "chunk size with a space before": refused(post(CHUNKED) + b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a tab behind": refused(
        post(CHUNKED) + b"5\t\r\nhello\r\n0\r\n\r\n", nginx=SIZE_SPACE, haproxy=SIZE_SPACE
    ),
    "chunk size with a plus": refused(post(CHUNKED) + b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a minus": refused(post(CHUNKED) + b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with 0x": refused(post(CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with an underscore": refused(post(CHUNKED) + b"0_5\r\nhello\r\n0\r\n\r\n"),
    "no chunk size": refused(post(CHUNKED) + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": refused(post(CHUNKED) + b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk size that wraps at 32 bits": Case(
        post(CHUNKED) + b"100000005\r\nhello\r\n0\r\n\r\n", (), (), None, {"nginx": SIZE_LIMIT}
    ),
    "chunk size ended by a line feed": refused(
        post(CHUNKED) + b"5\nhello\r\n0\r\n\r\n", nginx=CHUNK_LINE, haproxy=CHUNK_LINE
    ),
    "chunk data ended by a line feed": refused(
        post(CHUNKED) + b"5\r\nhello\n0\r\n\r\n", nginx=CHUNK_LINE, haproxy=CHUNK_LINE
    ),
    "chunk data ended by nothing": refused(post(CHUNKED) + b"5\r\nhello0\r\n\r\n"),
    "chunk data ended by two other bytes": refused(post(CHUNKED) + b"5\r\nhelloXX0\r\n\r\n"),
    "chunk longer than it says": refused(post(CHUNKED) + b"3\r\nhello\r\n0\r\n\r\n"),
    "chunk shorter than it says": refused(post(CHUNKED) + b"9\r\nhello\r\n0\r\n\r\n"),
    "last chunk ended by line feeds": refused(
        post(CHUNKED) + b"5\r\nhello\r\n0\n\n", nginx=CHUNK_LINE, haproxy=CHUNK_LINE
    ),
    "last chunk without its empty line": refused(post(CHUNKED) + b"5\r\nhello\r\n0\r\n", nginx=TRAILER_END),
    "trailers": passed(post(CHUNKED) + b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", POSTED),
    "length in a trailer": refused(
        post(CHUNKED) + b"5\r\nhello\r\n0\r\ncontent-length: 3\r\n\r\n", nginx=TRAILER_FRAMING, haproxy=TRAILER_FRAMING
    ),
    "coding in a trailer": refused(
        post(CHUNKED) + b"5\r\nhello\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
        nginx=TRAILER_FRAMING,
        haproxy=TRAILER_FRAMING,
    ),
    "host in a trailer": passed(post(CHUNKED) + b"5\r\nhello\r\n0\r\nhost: other.test\r\n\r\n", POSTED),
    "trailer without a colon": refused(post(CHUNKED) + b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n", nginx=TRAILER_FORM),
    "folded trailer": refused(
        post(CHUNKED) + b"5\r\nhello\r\n0\r\nx: 1\r\n 2\r\n\r\n", nginx=TRAILER_FORM, haproxy=TRAILER_FORM
    ),
    "trailer with a bare line feed": refused(
        post(CHUNKED) + b"5\r\nhello\r\n0\r\nx: 1\ny: 2\r\n\r\n", nginx=TRAILER_LF, haproxy=TRAILER_LF
    ),
}
