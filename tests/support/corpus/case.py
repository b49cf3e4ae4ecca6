"""One case of the corpus, and the words that cases are written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.peers import Got, Verdict

CHUNKED = b"transfer-encoding: chunked"
LENGTH = b"content-length: 5"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
INNER = b"GET /models/fraud/smuggled HTTP/1.1\r\nhost: router.test\r\n\r\n"

POSTED = Got(b"POST", b"/invocations", b"hello")
ASKED = Got(b"GET", b"/x")


@dataclass(frozen=True)
class Case:
    """What is sent, what we make of it, and by peer why that one may `differ`.

    `kept` is None where we wait for more; `cut` where the server gets the upload in part, and a closed connection.
    """

    sent: bytes
    statuses: tuple[int, ...]
    got: tuple[Got, ...]
    kept: bool | None
    differ: Mapping[str, str]
    cut: bool = False

    @property
    def verdict(self) -> Verdict:
        """What we make of it."""
        return Verdict(self.statuses, self.got, self.kept)


def refused(sent: bytes, status: int = 400, *, kept: bool = False, **differ: str) -> Case:
    """Answered by the router alone."""
    return Case(sent, (status,), (), kept, differ)


def passed(
    sent: bytes, *got: Got, kept: bool = True, cut: bool = False, statuses: tuple[int, ...] = (), **differ: str
) -> Case:
    """Forwarded as `got`, each answered with 200 unless `statuses` says otherwise."""
    return Case(sent, statuses or (200,) * len(got), got, kept, differ, cut)


def head(first: bytes, *lines: bytes, host: bytes | None = b"router.test") -> bytes:
    """A request's head."""
    return b"\r\n".join((first, *((b"host: " + host,) if host is not None else ()), *lines, b"", b""))


def post(*lines: bytes, path: bytes = b"/models/fraud/invocations", version: bytes = b"1.1") -> bytes:
    """The head of a prediction."""
    return head(b"POST " + path + b" HTTP/" + version, *lines)


def get(
    path: bytes,
    *lines: bytes,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    host: bytes | None = b"router.test",
) -> bytes:
    """The head of another request below the model's prefix."""
    return head(method + b" /models/fraud" + path + b" HTTP/" + version, *lines, host=host)
