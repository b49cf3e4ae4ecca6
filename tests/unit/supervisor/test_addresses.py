"""Addresses: how they are written, who has them, and what is said when they cannot be had."""

from __future__ import annotations

import os
import socket
from contextlib import closing

import pytest

from router.errors import OperatorError
from router.supervisor.addresses import (
    PortInUseError,
    bound_address,
    holder_of,
    is_loopback,
    listen,
    split_address,
    url_of,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9090", ("::1", 9090)),
        (":8080", ("", 8080)),
        ("*:8080", ("", 8080)),
    ],
)
def test_addresses_as_people_write_them(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text, "listen") == expected


@pytest.mark.parametrize("text", ["8080", "host:", "host:http", "host:65536", "::1:80", "host:-1", "host:٣", ""])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(OperatorError, match=r"admin: .* is no address") as raised:
        split_address(text, "admin")
    assert "127.0.0.1:8080" in raised.value.hint


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.8.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        (":1", False),
        ("example.org:1", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]"), ("localhost:0", "127.0.0.1")]
)
def test_port_0_takes_a_free_port(address: str, host: str) -> None:
    with closing(listen(address, "listen")) as listener:
        port = listener.getsockname()[1]
        assert bound_address(listener) == f"{host}:{port}"
        assert url_of(listener) == f"http://{host}:{port}"
        assert not listener.getblocking()
        assert not listener.get_inheritable()


@pytest.mark.parametrize(("address", "url"), [("0.0.0.0:0", "http://127.0.0.1"), ("[::]:0", "http://[::1]")])
def test_a_listener_on_every_interface_is_reached_over_loopback(address: str, url: str) -> None:
    with closing(listen(address, "listen")) as listener:
        assert url_of(listener) == f"{url}:{listener.getsockname()[1]}"


def test_every_ipv6_interface_takes_ipv4_too() -> None:
    with closing(listen("[::]:0", "listen")) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            assert connection.getpeername()[1] == port


def test_a_port_in_use_names_its_holder() -> None:
    with closing(listen("127.0.0.1:0", "listen")) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"listen: cannot listen on 127.0.0.1:{port}") as raised:
            listen(f"127.0.0.1:{port}", "listen")
        assert f"(pid {os.getpid()})" in raised.value.hint
        assert f"(pid {os.getpid()})" in holder_of(port)
    assert holder_of(port) == ""


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OperatorError, match="no interface of this machine") as raised:
        listen("192.0.2.1:0", "listen")
    assert not isinstance(raised.value, PortInUseError)


def test_a_name_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"cannot listen on nowhere\.invalid:80"):
        listen("nowhere.invalid:80", "listen")
