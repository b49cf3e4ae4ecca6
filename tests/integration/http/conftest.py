"""A worker for the tests of the data port's rules.

Rules:
1. One worker serves all tests of a session; each test has a model server of its own, and leaves nothing under way.
2. Tests that need other limits or trusted proxies start a worker of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.dataplane import Router, Wire, settled
from tests.support.stub_upstream import StubUpstream


@pytest.fixture(scope="session")
def shared_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A worker with the limits that are the defaults."""
    with Router(tmp_path_factory.mktemp("run")) as router:
        yield router


@pytest.fixture
def router(shared_router: Router) -> Iterator[Router]:
    """The shared worker, for one test."""
    with settled(shared_router):
        yield shared_router


@pytest.fixture
def wire(router: Router) -> Iterator[Wire]:
    """A model server played by hand. It ends before the test's `router` settles."""
    with Wire() as wire:
        yield wire


@pytest.fixture
def stub() -> Iterator[StubUpstream]:
    """A model server that answers by itself."""
    with StubUpstream() as stub:
        yield stub
