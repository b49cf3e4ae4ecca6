"""Who may do what on the admin port.

Rules:
1. Decided on the scope alone, before any handler runs, by one plain ASGI layer.
2. `/livez` and `/readyz` are for orchestrators and open to all; what they tell in detail is for readers only.
3. Reading needs the role viewer or operator; anything but GET and HEAD needs operator.
4. Without a token, reading is allowed to a peer on loopback, unless `read_token: required`, provided that the request
   names this host by an IP address or as localhost, and no proxy says that it passes it on. The first keeps out web
   pages that let their own name point to loopback (DNS rebinding); the second keeps out whoever is behind a proxy on
   this machine. A page from another site cannot read the answers: no CORS header is ever sent.
5. Tokens are compared by hash, all of them, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from typing import Literal, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from router.web.problems import problem

OPEN_PATHS = frozenset({"/livez", "/readyz"})
LOOPBACK = "loopback"
READING = frozenset({"GET", "HEAD"})
PASSED_ON = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})

Refusal = tuple[Literal[401, 403], str]


class Token(Protocol):
    """A token as the settings hold it. `sha256` is in hex."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def sha256(self) -> str: ...


class Guard:
    """Lets a request through to `app`, or answers 401 or 403.

    Puts `actor` (a token's name, or "") and `reader` (may it see details) into the scope's state.
    """

    def __init__(self, app: ASGIApp, *, tokens: Sequence[Token], read_token: str) -> None:
        self._app = app
        self._tokens = tuple(tokens)
        self._loopback_reads = read_token == LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        actor, refusal = self.judge(scope)
        scope.setdefault("state", {}).update(actor=actor, reader=refusal is None)
        if refusal is None or (scope["path"] in OPEN_PATHS and scope["method"] in READING):
            await self._app(scope, receive, send)
            return
        status, detail = refusal
        challenge = {"www-authenticate": 'Bearer realm="canary-router"'} if status == 401 else None
        await problem(status, detail, challenge)(scope, receive, send)

    def judge(self, scope: Scope) -> tuple[str, Refusal | None]:
        """The actor's name, and the refusal where there is one."""
        reading = scope["method"] in READING
        presented = _headers(scope, b"authorization")
        if presented:
            token = self._token(presented[0]) if len(presented) == 1 else None
            if token is None:
                return "", (401, "this token is not known here")
            if not reading and token.role != "operator":
                return token.name, (403, "changes need a token with the role operator")
            return token.name, None
        if not reading:
            return "", (401, "changes need a bearer token with the role operator")
        if not self._loopback_reads or not _is_loopback(scope):
            return "", (401, "reading from here needs a bearer token")
        if not _names_this_machine(scope) or any(name in PASSED_ON for name, _ in scope["headers"]):
            return "", (403, "reading without a token is for localhost, named as such, and not through a proxy")
        return "", None

    def _token(self, header: bytes) -> Token | None:
        scheme, _, value = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = hashlib.sha256(value.strip()).hexdigest()
        found = [token for token in self._tokens if hmac.compare_digest(digest, token.sha256.lower())]
        return found[0] if found else None


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _names_this_machine(scope: Scope) -> bool:
    hosts = _headers(scope, b"host")
    if len(hosts) != 1:
        return False
    host = hosts[0].decode("latin-1")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
