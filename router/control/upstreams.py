"""Upstream URLs to addresses, and credentials to headers.

Rules:
1. Every address of a name is an endpoint; the name stays what `Host` and the certificate are about.
2. A credential's value is read again and again, so that a rotated file is noticed; it is never logged or shown.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from router.control.needs import Credential
from router.core.snapshot import Endpoint
from router.errors import OperatorError

MAX_CREDENTIAL = 64 * 1024
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream URL, taken apart. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    def endpoint(self, address: str) -> Endpoint:
        """The endpoint at `address`, one of the addresses of `host`."""
        tls = self.scheme == "https"
        return Endpoint(
            network="tls" if tls else "tcp",
            address=address,
            port=self.port,
            authority=self.authority,
            server_name=self.host if tls else "",
            base_path=self.path,
        )


def parse(url: str) -> Upstream:
    """Takes `url` apart.

    Raises:
        OperatorError: it is no http or https URL with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise OperatorError(f"upstream {url!r} is no http or https URL") from error
    if not parts.hostname:
        raise OperatorError(f"upstream {url!r} names no host")
    return Upstream(parts.scheme, parts.hostname, port, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"))


def addresses_of(host: str) -> tuple[str, ...]:
    """The addresses of `host`, in a stable order. Blocking.

    Raises:
        OSError: the name cannot be resolved.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(sorted({str(entry[4][0]) for entry in found}))


def headers_of(
    credentials: Iterable[Credential], environ: Mapping[str, str] = os.environ
) -> tuple[tuple[str, str], ...]:
    """Header names and values. Blocking.

    Raises:
        OperatorError: a variable or a file is missing, or its content cannot be a header's value.
    """
    return tuple((credential.header, _value_of(credential, environ)) for credential in credentials)


def _value_of(credential: Credential, environ: Mapping[str, str]) -> str:
    where = f"header {credential.header}: {'variable' if credential.kind == 'env' else 'file'} {credential.place}"
    if credential.kind == "env":
        value = environ.get(credential.place)
        if value is None:
            raise OperatorError(f"{where} is not set", hint="set it in the environment of canary-router serve")
    else:
        value = _read(credential.place, where)
    value = value.strip()
    if not value or not value.isascii() or not value.isprintable():
        raise OperatorError(f"{where} is empty or has characters that no header may have")
    return value


def _read(place: str, where: str) -> str:
    try:
        with Path(place).open("rb") as file:
            return file.read(MAX_CREDENTIAL).decode("ascii")
    except OSError as error:
        raise OperatorError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise OperatorError(f"{where} is not ASCII text") from error
