"""What every test stands on.

Rules:
1. A blocking call on the event loop's thread, made by code under `router`, fails the test that caused it.
2. A test that needs a program says so with `needs(program)`: without the program it is skipped, and the reason names
   the package to install; where CI=true it fails, because there nothing may go untested.
3. Async tests run on asyncio: `@pytest.mark.anyio`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "git": "git",
    "haproxy": "haproxy",
    "kubectl": "kubernetes-client",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "promtool": "prometheus",
    "ssh-keygen": "openssh-client",
    "wrk": "wrk",
}
"""The Debian package that brings a program; a program that is not listed is a package of the same name."""


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of async tests."""
    return "asyncio"


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[BlockBuster]:
    """Raises `BlockingError` out of any call that would block a running event loop (rule 1)."""
    with blockbuster_ctx(scanned_modules="router") as guard:
        yield guard


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keeps rule 2."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            _need(program)


def _need(program: str) -> None:
    if shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"):
        return
    reason = f"needs {program}, which is not installed; on Debian: apt-get install {PACKAGES.get(program, program)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
