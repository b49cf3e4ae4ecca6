"""Other proxies, each before a server that keeps the bytes it gets, and what a proxy makes of a case.

Rules:
1. Behind every case a probe is sent at once: a proxy that agrees with the client on where messages end answers it.
2. What reached the server is read twice: leniently, to answer it, and strictly by `strictly`, which stands for the
   least forgiving server that there is.
3. A proxy that waits for more has that as its verdict, after `PATIENCE` seconds without a byte.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h11

from tests.support.wait import eventually

PATIENCE = 2.0
CONTROLS = set(range(32)) - {9}
PREFIX = re.compile(rb"^(?:https?://[^/]*)?/models/(?:fraud|stream)")
PROBE = b"GET /models/fraud/probe HTTP/1.1\r\nhost: router.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
PROBED = b"\r\n\r\nprobe"
PROBED_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5" + PROBED
TRAILERS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"


@dataclass(frozen=True)
class Got:
    """A request as a server got it; `target` without the model's prefix."""

    method: bytes
    target: bytes
    body: bytes = b""


@dataclass(frozen=True)
class Verdict:
    """What became of a case: final status codes (0: no HTTP/1 response), what the server got whole, what of the probe.

    `kept` is None where the proxy waits for more.
    """

    statuses: tuple[int, ...]
    got: tuple[Got, ...]
    kept: bool | None

    def coarse(self) -> tuple[tuple[bool, ...], tuple[Got, ...], bool | None]:
        """What proxies have to agree on: which code they refuse with is their own affair."""
        return tuple(200 <= status < 400 for status in self.statuses), self.got, self.kept


# -- the server behind


@dataclass
class Recorded:
    """One connection: its bytes, and the requests that a lenient server read from them."""

    raw: bytearray = field(default_factory=bytearray)
    got: list[Got] = field(default_factory=list)
    open: bool = True


class Recorder:
    """A server that keeps what it gets. `/early` is answered before its body, `/trailers` with trailers."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[Recorded] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Recorder:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self.listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                record = Recorded()
                self.connections.append(record)
                self._sockets.add(sock)
                self._threads.append(threading.Thread(target=self._serve, args=(sock, record), daemon=True))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket, record: Recorded) -> None:
        try:
            with sock, contextlib.suppress(OSError, h11.RemoteProtocolError):
                _converse(sock, record)
        finally:
            self._sockets.discard(sock)
            record.open = False

    def take(self, *, closed: bool) -> list[Recorded]:
        """The connections since the last call; `closed` waits until the proxy has closed them all."""
        if closed:
            eventually(lambda: not any(one.open for one in self.connections), 5.0, "the proxy closes its connections")
        taken, self.connections = self.connections, []
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return taken


def _converse(sock: socket.socket, record: Recorded) -> None:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    request, body = None, b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = sock.recv(65536)
            record.raw += data
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            request, body = event, b""
            if request.target.endswith(b"/early"):
                sock.sendall(ANSWER + b"ok")
                _drain(sock, record)
                return
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            record.got.append(Got(request.method, PREFIX.sub(b"", request.target), body))
            sock.sendall(_answer(request))
            if parser.their_state is not h11.DONE:
                return
            parser = _next(parser)
        else:
            return


def _answer(request: h11.Request) -> bytes:
    if request.target.endswith(b"/probe"):
        return PROBED_ANSWER
    if request.target.endswith(b"/trailers"):
        return TRAILERS
    return ANSWER if request.method == b"HEAD" else ANSWER + b"ok"


def _next(parser: h11.Connection) -> h11.Connection:
    """A parser for the next request, with what has come of it."""
    rest, _ = parser.trailing_data
    fresh = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    if rest:
        fresh.receive_data(rest)
    return fresh


def _drain(sock: socket.socket, record: Recorded) -> None:
    while data := sock.recv(65536):
        record.raw += data


def strictly(raw: bytes, *, cut: bool = False) -> list[Got]:
    """The requests in `raw`, as a server reads them that forgives nothing; `cut` allows the last one to be a part.

    Raises:
        AssertionError: it is not a sequence of whole requests whose ends everybody sees in the same place.
    """
    found = []
    while raw:
        head = raw.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"")
        assert not set(head) & CONTROLS, f"a control character in the head: {head!r}"
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(raw)
        request = parser.next_event()
        assert isinstance(request, h11.Request), f"not a request: {request!r}"
        _check_head(request)
        body = b""
        while isinstance(event := parser.next_event(), h11.Data):
            body += event.data
        if cut and event is h11.NEED_DATA:
            break
        assert isinstance(event, h11.EndOfMessage), f"not the end of a request: {event!r}"
        assert not list(event.headers), "trailers went on"
        found.append(Got(request.method, PREFIX.sub(b"", request.target), body))
        raw = parser.trailing_data[0]
    return found


def _check_head(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    assert names.count(b"host") == 1, names
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, names
    assert request.http_version == b"1.1"
    assert re.fullmatch(rb"/[!-~\x80-\xff]*", request.target), request.target
    codings = [value for name, value in request.headers if name == b"transfer-encoding"]
    assert codings in ([], [b"chunked"])
    assert not {b"connection", b"keep-alive", b"te", b"upgrade", b"expect", b"trailer"} & set(names), names


# -- the client before


def verdict(port: int, sent: bytes, *, head_only: bool = False) -> tuple[tuple[int, ...], bool | None]:
    """Sends a case and the probe to a proxy; final status codes, and whether the probe was answered."""
    received, kept = b"", False
    with socket.create_connection(("127.0.0.1", port), 5.0) as sock:
        sock.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):
            sock.sendall(sent + PROBE)
        try:
            while data := sock.recv(65536):
                received += data
                if received.endswith(PROBED):
                    return statuses(received, head_only=head_only)[:-1], True
        except ConnectionError:
            kept = False
        except TimeoutError:
            return statuses(received, head_only=head_only), None
    return statuses(received, head_only=head_only), kept


def statuses(received: bytes, *, head_only: bool = False) -> tuple[int, ...]:
    """The final status codes in `received`; the first has no body if `head_only`. 0 stands for what has no code."""
    found: list[int] = []
    while received:
        if not received.startswith(b"HTTP/1."):
            return (*found, 0)
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(head[9:12])
        if status < 200:
            continue
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        if head_only and not found:
            length = None
        elif b"chunked" in head.lower():
            received = received.partition(b"0\r\n")[2].partition(b"\r\n\r\n")[2]
        elif length is None:
            received = b""
        found.append(status)
        received = received[int(length[1]) if length else 0 :]
    return tuple(found)


# -- the proxies


_NGINX = """worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_timeout 75s; client_max_body_size 10m; proxy_request_buffering off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; }} }}
}}
"""

_HAPROXY = """defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  option http-server-close
frontend all
  bind 127.0.0.1:{port}
  default_backend models
backend models
  server one 127.0.0.1:{upstream}
"""


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """nginx before `upstream`; its port."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
    with _running(["nginx", "-c", str(config), "-p", str(folder), "-e", str(folder / "nginx.log")], port):
        yield port


@contextlib.contextmanager
def haproxy(folder: Path, upstream: int) -> Iterator[int]:
    """HAProxy before `upstream`; its port."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream=upstream))
    with _running(["haproxy", "-db", "-q", "-f", str(config)], port):
        yield port


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path) or command[0]
    with subprocess.Popen([program, *command[1:]], stdin=subprocess.DEVNULL) as child:
        try:
            eventually(lambda: _listens(port), 10.0, f"{command[0]} listens")
            yield
        finally:
            child.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
