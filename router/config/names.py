"""What names, headers, addresses and URLs may look like.

Rules:
1. A name is looked up, never joined into a path or URL; its pattern leaves nothing that could climb out of one.
2. A checker returns what it was given, or raises `ValueError` with a message that says what to write.
3. A message about a URL never repeats it: it may hold a password.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from router.config.problems import printable, quote

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
TOKEN_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"  # noqa: S105 - the grammar of a header's name, no secret
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
URL_PATTERN = r"^https?://[^\s/?#@\\]+(/[^\s?#\\]*)?$"

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
FRAMING = frozenset(
    {
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
    }
)
OWN = frozenset(
    {
        "forwarded",
        "proxy-status",
        "traceparent",
        "tracestate",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-model-version",
        "x-request-id",
        "x-request-timeout",
    }
)

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9._])?")


def check_name(text: str) -> str:
    """A model's, version's or region's name."""
    if not re.fullmatch(NAME_PATTERN, text):
        rule = "a letter or digit, then letters, digits, '.', '_' or '-', at most 128 in all"
        raise ValueError(f"{quote(text)} is not a name: {rule}")
    return text


def check_header(text: str) -> str:
    """A header's name, in small letters."""
    name = check_token(text).lower()
    if name in HOP_BY_HOP or name in FRAMING:
        raise ValueError(f"{quote(name)} belongs to the connection or the body; the router sets it itself")
    return name


def check_credential_header(text: str) -> str:
    """The name of a header that a version's config may add, in small letters."""
    name = check_header(text)
    if name in OWN:
        raise ValueError(f"{quote(name)} is a header that the router sets itself")
    return name


def check_sticky_header(text: str) -> str:
    """The name of a header that may hold a key, in small letters."""
    name = check_header(text)
    if name == "cookie":
        raise ValueError("all cookies together are no key; write stickiness: {cookie: NAME} for one of them")
    return name


def check_token(text: str) -> str:
    """A cookie's or header's name as HTTP allows it."""
    if not re.fullmatch(TOKEN_PATTERN, text):
        raise ValueError(f"{quote(text)} cannot be the name of a header or cookie")
    return text


def check_variable(text: str) -> str:
    """The name of an environment variable. The text is not repeated: it may be the secret itself, misplaced."""
    if not re.fullmatch(VARIABLE_PATTERN, text):
        raise ValueError("must be the name of an environment variable, such as FRAUD_TOKEN")
    return text


def check_url(text: str) -> str:
    """An http or https URL of a server, with an optional base path."""
    if not text.isascii() or not text.isprintable() or set(text) & {" ", "\\"}:
        raise ValueError("a URL holds no spaces, backslashes or non-ASCII characters")
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        raise ValueError("host or port of the URL cannot be read; a port is a number from 1 to 65535") from error
    if "@" in parts.netloc:
        raise ValueError("a URL holds no user or password; write headers: {authorization: {env: NAME}} instead")
    if "?" in text or "#" in text:
        raise ValueError("the URL of a server has no query ('?') and no fragment ('#')")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("a port is a number from 1 to 65535")
    if ".." in parts.path.split("/") or "." in parts.path.split("/"):
        raise ValueError("a base path holds no '.' or '..'")
    _check_host(host)
    return text


def check_address(text: str) -> str:
    """Where to listen: `HOST:PORT`, `[IPV6]:PORT`, `:PORT` for every interface; port 0 takes any free one."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{quote(text)} is no address; write HOST:PORT, such as 0.0.0.0:8080 or [::1]:8080")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError(f"an IPv6 address needs brackets: [{printable(host[:40])}]:{port}")
    if bracketed:
        _check_ipv6(host[1:-1])
    elif host not in {"", "*"}:
        _check_host(host)
    return text


def _check_host(host: str) -> None:
    if ":" in host:
        _check_ipv6(host)
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{quote(host)} is no host" if host else "names no host")
    elif re.fullmatch(r"[0-9.]+", host):
        _check_ipv4(host)


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError as error:
        raise ValueError(f"{quote(host)} is no IPv6 address") from error


def _check_ipv4(host: str) -> None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError as error:
        raise ValueError(f"{quote(host)} is no IPv4 address") from error
