"""Listening sockets: made once, before any child, and kept until the end.

Rules:
1. A socket that listens in the supervisor loses no connection when a child dies: the next one accepts it.
2. `HOST:PORT`, `[IPV6]:PORT` and `:PORT` (every IPv4 interface; `[::]:PORT` has IPv6 too) are addresses;
   port 0 takes any free one.
3. An address that cannot be had is an error that names it and, where it can be found out, who has it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress
from pathlib import Path

from router.errors import OperatorError

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""


class PortInUseError(OperatorError):
    """Somebody else listens on that port."""


def split_address(text: str, what: str) -> tuple[str, int]:
    """Host (empty for every interface) and port of `text`; `what` names the setting in an error.

    Raises:
        OperatorError: `text` is no address.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise OperatorError(
            f"{what}: {text!r} is no address",
            hint="write HOST:PORT, for example 127.0.0.1:8080, or [::1]:8080 for IPv6",
        )
    host = host[1:-1] if bracketed else host
    return ("" if host == "*" else host), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the `HOST:PORT` in `address`."""
    host, _ = split_address(address, "address")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(address: str, what: str) -> socket.socket:
    """A socket that listens on `address`; `what` names the setting it came from in an error.

    Raises:
        PortInUseError: somebody else has the port.
        OperatorError: the address is none, or cannot be had for another reason.
    """
    host, port = split_address(address, what)
    try:
        return _bind(host, port)
    except OSError as error:
        kind = PortInUseError if error.errno == errno.EADDRINUSE else OperatorError
        message = f"{what}: cannot listen on {address}: {_reason(error)}"
        raise kind(message, hint=_remedy(error, port)) from error


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" takes IPv4 as well, whatever the machine's default is.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def bound_address(listener: socket.socket) -> str:
    """`HOST:PORT` that `listener` really has."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(listener: socket.socket) -> str:
    """A URL under which this machine reaches `listener`: loopback, where it listens on every interface."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reason(error: OSError) -> str:
    known = {
        errno.EADDRINUSE: "the port is in use",
        errno.EACCES: "this user may not",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    }
    return known.get(error.errno or 0, error.strerror or str(error))


def _remedy(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        who = f"{holder} listens there" if holder else "see who listens there with: ss -ltnp"
        return f"{who}; end it, or choose another port (0 takes any free one)"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose a higher one"
    return "look at the machine's addresses with: ip address"


def holder_of(port: int) -> str:
    """Name and pid of the process that listens on TCP `port`, as far as this user may see; else an empty string."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        # Processes come and go while we look, and most of those of other users are closed to us.
        with suppress(OSError):
            if any(str(descriptor.readlink()) in wanted for descriptor in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes
