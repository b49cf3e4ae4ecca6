"""Heads that repeat, read without the parser.

Whoever keeps a connection sends nearly the same head again and again. What the parser made of one is kept as a form:
the bytes that stay, and between them the values that were seen to differ.

Rules:
1. A form is learned only from a head that the parser accepted, and only where reading it line by line gives exactly
   what the parser gave.
2. A head has a form if all its bytes do, apart from the values that differ. Such a value is of visible characters,
   with spaces at most between them: it can end neither its line nor the head. It belongs to a header that says nothing
   about framing or the connection; Content-Length is the one exception, and is digits.
3. A form is asked only between two messages, and takes only one that is there whole, with nothing behind it.
4. What has no form the parser reads, to the same effect: a form saves time and decides nothing.
5. Heads that keep changing their shape are soon left to the parser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from router.dataplane.headers import (
    CONNECTION,
    COOKIE,
    DROPPED,
    ENCODING,
    EXPECT,
    HOST,
    LENGTH,
    OVERRIDE,
    PLAIN,
    STICKY,
    UPGRADE,
)

VISIBLE = bytes(range(33, 127))
NEVER_LEARNED = ENCODING | EXPECT | UPGRADE
"""Headers that make a message more than a head and a body of known length."""

NEVER_VARYING = HOST | CONNECTION | DROPPED
"""Headers whose values the parser, or the connection's state, depends on."""

MAX_LEARNED_HEAD = 4096
MAX_DIGITS = 12
FUTILE = 8
PASSED = frozenset({PLAIN, STICKY, COOKIE, OVERRIDE})
ONLY_PLAIN = frozenset({PLAIN})
SELDOM = 64

DIGITS = -1
TARGET = -1
"""By what `special` has the first line behind the method, where requests differ in it."""

Reading = tuple[list[bytes], Mapping[int | bytes, bytes], bytes]
"""The header lines to pass on (joined, they are lines; not to be changed), the values that mean something, the body."""


@dataclass(slots=True, eq=False)
class Form:
    """What heads of one form have in common. `holes` are the values that differ, in their order."""

    head: bytes
    """The head it was learned from."""
    varying: frozenset[int]
    """The lines of it whose values differ; the first line is 0."""
    start: bytes
    size: int
    """The length of `start`."""
    holes: list[tuple[bytes, int, int, int | bytes | None]]
    """What follows the value, the length of that, the place in `pieces`, the key in `special`.

    Place 0: it is not passed on; `DIGITS`: it is the length of the body.
    """
    pieces: list[bytes]
    special: dict[int | bytes, bytes]
    length: int
    method: bytes = b""
    target: bytes = b""
    """b"" where it is among the values that differ."""
    seen: int = 0
    status: int = 0
    kinds: Mapping[bytes, int] | None = None
    """What header names meant when it was learned."""
    hits: int = 0

    def read(self, data: bytes) -> Reading | None:
        """What `data` says, if it is one whole message of this form."""
        if not data.startswith(self.start):
            return None
        at = self.size
        length = self.length
        pieces, special = self.pieces, self.special
        if self.holes:
            pieces, special = pieces.copy(), special.copy()
            for behind, size, place, key in self.holes:
                end = data.find(b"\r", at)
                value = data[at:end]
                if not data.startswith(behind, end) or not value:
                    return None
                odd = value.translate(None, VISIBLE)
                if odd and (odd.strip(b" ") or value.strip(b" ") != value):
                    return None
                if place > 0:
                    pieces[place] = value
                elif place:
                    if not value.isdigit() or len(value) > MAX_DIGITS:
                        return None
                    length = int(value)
                if key is not None:
                    special[key] = value
                at = end + size
        if len(data) - at != length:
            return None
        self.hits += 1
        return pieces, special, data[at:]


class Forms:
    """What is known of one peer's heads."""

    __slots__ = ("_futile", "form")

    def __init__(self) -> None:
        self.form: Form | None = None
        self._futile = 0

    def worth_learning(self) -> bool:
        """Whether to learn from a head that had no known form (rule 5)."""
        if self.form is not None and self.form.hits:
            self._futile = 0
        self._futile += 1
        return self._futile <= FUTILE or not self._futile % SELDOM


def learn(
    head: bytes,
    before: Form | None,
    kind_of: Callable[[bytes], int],
    parsed: tuple[Sequence[bytes], Mapping[int | bytes, bytes], int],
    *,
    request: bool,
) -> Form | None:
    """The form of `head`, None where it has none (rule 1).

    Args:
        head: all bytes up to the empty line and with it.
        before: the form of the head before on the same way; values that differ from it are taken to vary.
        kind_of: what a header is, by its name.
        parsed: what the parser made of it: lines, special values, length of the body.
        request: whether it is a request's; of a response no value means anything here.
    """
    if len(head) > MAX_LEARNED_HEAD or not head.endswith(b"\r\n\r\n"):
        return None
    lines = head[:-4].split(b"\r\n")
    maker = _Maker(lines[0], _varying(lines, before, request=request), request=request)
    for number, line in enumerate(lines[1:], 1):
        name, _, rest = line.partition(b":")
        kind = kind_of(name)
        if kind & NEVER_LEARNED:
            return None
        maker.add(number, name, rest, kind)
    return maker.form(head) if maker.read() == (b"".join(parsed[0]), parsed[1], parsed[2]) else None


def _varying(lines: list[bytes], before: Form | None, *, request: bool) -> frozenset[int]:
    """The numbers of the lines that differ from the head before, and of those that differed earlier."""
    if before is None:
        return frozenset()
    others = before.head[:-4].split(b"\r\n")
    if len(others) != len(lines):
        return frozenset()
    differ = {number for number, (one, other) in enumerate(zip(lines, others, strict=True)) if one != other}
    if (0 in differ and not request) or any(
        lines[number].partition(b":")[0] != others[number].partition(b":")[0] for number in differ if number
    ):
        return frozenset()
    return before.varying | differ


class _Maker:
    """Puts a form together, line by line."""

    def __init__(self, first: bytes, varying: frozenset[int], *, request: bool) -> None:
        self._passed = PASSED if request else ONLY_PLAIN
        self._request = request
        self.special: dict[int | bytes, bytes] = {}
        self.length = 0
        self._varying = varying
        self._raw: list[bytes] = [b""]
        self._pieces: list[bytes] = [b""]
        self._holes: list[tuple[int, int | bytes | None]] = []
        self._wanted: list[bytes] = []
        if 0 in varying and b" " in first:
            self._raw[-1] += first.partition(b" ")[0] + b" "
            self._hole(0, TARGET)
        else:
            self._raw[-1] += first + b"\r\n"

    def _hole(self, place: int, key: int | bytes | None) -> None:
        self._holes.append((place, key))
        self._raw.append(b"\r\n")

    def add(self, number: int, name: bytes, rest: bytes, kind: int) -> None:
        """One header line: `name` and the `rest` behind its colon."""
        value = rest.strip(b" \t")
        passes = kind in self._passed
        key = self._key(name, kind)
        known = key in self.special
        if kind == LENGTH:
            self.length = int(value) if value.isdigit() and len(value) <= MAX_DIGITS else -1
        elif key is not None and not known:
            self.special[key] = value
        elif key is not None and kind != STICKY:
            self.special[key] += (b"; " if kind == COOKIE else b", ") + value
        if passes:
            self._wanted.append(b"%b: %b\r\n" % (name, value))
        if number in self._varying and not kind & NEVER_VARYING and value and not (known and kind != STICKY):
            self._vary(
                name, rest, DIGITS if kind == LENGTH else len(self._pieces) if passes else 0, None if known else key
            )
            return
        self._raw[-1] += name + b":" + rest + b"\r\n"
        if passes:
            self._pieces[-1] += self._wanted[-1]

    def _vary(self, name: bytes, rest: bytes, place: int, key: int | bytes | None) -> None:
        blank = rest[: len(rest) - len(rest.lstrip(b" \t"))]
        self._raw[-1] += name + b":" + blank
        if place > 0:
            self._pieces[-1] += name + b": "
            self._pieces += [b"", b"\r\n"]
        self._hole(place, key)

    def _key(self, name: bytes, kind: int) -> int | bytes | None:
        if kind in (PLAIN, HOST, LENGTH) or not self._request:
            return None
        return name.lower() if kind == STICKY else kind

    def read(self) -> tuple[bytes, dict[int | bytes, bytes], int]:
        """What reading line by line gave."""
        return b"".join(self._wanted), self.special, self.length

    def form(self, head: bytes) -> Form:
        """The form."""
        self._raw[-1] += b"\r\n"
        start, *behind = self._raw
        holes = [(after, len(after), *hole) for after, hole in zip(behind, self._holes, strict=True)]
        return Form(head, self._varying, start, len(start), holes, self._pieces, self.special, self.length)
