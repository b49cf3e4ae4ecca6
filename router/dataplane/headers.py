"""What each header means to a proxy.

Rules:
1. Hop-by-hop headers and every name listed in `Connection` end here, in both directions; framing is made anew.
2. A name is looked up by its spelling on the wire; a new spelling is learned once, and what is learned is bounded.
3. Whatever is not listed here passes through as it was sent.
4. Forwarding headers of a peer that is not trusted are dropped and made fresh.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# What a request header is. Whatever is not listed is PLAIN.
PLAIN = 0
HOST = 1
LENGTH = 2
STICKY = 4
ENCODING = 8
CONNECTION = 16
EXPECT = 32
UPGRADE = 64
REQUEST_ID = 128
OVERRIDE = 256
DEADLINE = 512
COOKIE = 1024
FORWARDED_FOR = 2048
FORWARDED = 4096
VIA = 8192
DROPPED = 16384
FORWARDED_PROTO = 32768
FORWARDED_HOST = 65536

ONCE = HOST | LENGTH | ENCODING
"""Headers that come once in a message."""

FORWARDING = FORWARDED_FOR | FORWARDED_PROTO | FORWARDED_HOST | FORWARDED | VIA
NOTED = FORWARDING | REQUEST_ID
"""What a request says of where it comes from, and its own id."""

HOP_BY_HOP = frozenset(
    {
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"http2-settings",
    }
)

_REQUEST_KINDS = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": ENCODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"x-request-id": REQUEST_ID,
    b"x-model-version": OVERRIDE,
    b"x-request-timeout": DEADLINE,
    b"cookie": COOKIE,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-forwarded-host": FORWARDED_HOST,
    b"forwarded": FORWARDED,
    b"via": VIA,
    **dict.fromkeys(HOP_BY_HOP, DROPPED),
}

# What a response header is.
_RESPONSE_KINDS = {
    b"content-length": LENGTH,
    b"transfer-encoding": ENCODING,
    b"connection": CONNECTION,
    b"upgrade": DROPPED,
    b"x-request-id": REQUEST_ID,
    b"x-model-version": OVERRIDE,
    **dict.fromkeys(HOP_BY_HOP, DROPPED),
}
MAX_LEARNED = 4096
MAX_NAME = 64


def key_of(name: bytes) -> int | bytes:
    """By what `special` of a request has the header `name` (lower case), if it holds a sticky key."""
    return _REQUEST_KINDS.get(name, name)


class NameTable:
    """Header names by their spelling on the wire → what they are (rule 2).

    `known` is a plain dict that callers look into by themselves, calling `learn` on a miss: this happens once for
    each header of each request. It stays the same object.
    """

    def __init__(self, kinds: dict[bytes, int]) -> None:
        self.known = dict(kinds)
        self.kinds = kinds

    def learn(self, name: bytes) -> int:
        """What `name` is, and remembers this spelling while there is room."""
        kind = self.kinds.get(name.lower(), PLAIN)
        if len(self.known) < MAX_LEARNED and len(name) <= MAX_NAME:
            self.known[name] = kind
        return kind

    def kind_of(self, name: bytes) -> int:
        """What `name` is."""
        return self.kinds.get(name.lower(), PLAIN)


class RequestNames(NameTable):
    """The names of request headers, among them those that hold a sticky key in some model."""

    def __init__(self) -> None:
        super().__init__(dict(_REQUEST_KINDS))

    def set_sticky(self, names: Iterable[bytes]) -> None:
        """Makes `names` (lower case) the headers that hold sticky keys; a header with another meaning keeps it."""
        self.kinds = {**dict.fromkeys(names, STICKY), **_REQUEST_KINDS}
        self.known.clear()
        self.known.update(self.kinds)


def response_names() -> NameTable:
    """The names of response headers."""
    return NameTable(dict(_RESPONSE_KINDS))


USUAL_CONNECTION = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})
"""Values of a Connection header that list no other header."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*\Z")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")


def is_host(value: bytes) -> bool:
    """Whether `value` can be a Host header's value."""
    return len(value) <= 255 and _HOST.match(value) is not None


def is_sane_id(value: bytes) -> bool:
    """Whether a caller's request id may be passed on, logged and returned."""
    return _SANE_ID.match(value) is not None


def connection_names(value: bytes) -> frozenset[bytes] | None:
    """The lower-case names listed in a Connection header's value; None where it is not a list of tokens."""
    names = [part.strip(b" \t").lower() for part in value.split(b",")]
    if any(name and not _TOKEN.match(name) for name in names):
        return None
    return frozenset(name for name in names if name)


def without(pieces: Sequence[bytes], names: frozenset[bytes]) -> list[bytes]:
    """The lines (each `name: value\\r\\n`) that `pieces` are when joined, without those in `names` (lower case)."""
    lines = b"".join(pieces).splitlines(keepends=True)
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def cookie_value(header: bytes, name: bytes) -> bytes:
    """The value of cookie `name` in a Cookie header, b"" where it is not there."""
    for pair in header.split(b";"):
        key, equals, value = pair.strip(b" \t").partition(b"=")
        if equals and key == name:
            return value
    return b""


_DURATION = re.compile(rb"(\d{1,9})(?:\.(\d{1,6}))?(ms|s|m|h)\Z")
_UNITS = {b"ms": 0.001, b"s": 1.0, b"m": 60.0, b"h": 3600.0}


def duration(value: bytes) -> float | None:
    """`500ms`, `2s`, `10m`, `1h` in seconds; None where it is something else."""
    found = _DURATION.match(value)
    if found is None:
        return None
    whole, fraction, unit = found.groups()
    return float(whole + b"." + (fraction or b"0")) * _UNITS[unit]
