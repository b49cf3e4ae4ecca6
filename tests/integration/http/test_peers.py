"""Our reading of requests beside that of nginx and HAProxy, over one corpus.

Rules:
1. Whatever is forwarded reaches the server as bytes that parse, strictly, as exactly the intended requests.
2. Our verdict on a case is the one that the corpus states; a peer's may differ only where the corpus has a reason.
3. No peer's verdict is pinned: a reason allows a difference.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from router.core.snapshot import Endpoint
from tests.support.corpus import CORPUS
from tests.support.dataplane import Router, model, target
from tests.support.peers import Got, Recorded, Recorder, Verdict, haproxy, nginx, strictly, verdict

ALL = pytest.mark.parametrize("name", CORPUS)


@pytest.fixture(scope="module")
def nginx_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Recorder]]:
    """nginx's port and the server behind it."""
    with Recorder() as recorder, nginx(tmp_path_factory.mktemp("nginx"), recorder.port) as port:
        yield port, recorder


@pytest.fixture(scope="module")
def haproxy_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Recorder]]:
    """HAProxy's port and the server behind it."""
    with Recorder() as recorder, haproxy(tmp_path_factory.mktemp("haproxy"), recorder.port) as port:
        yield port, recorder


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """The server behind our worker, for one test."""
    with Recorder() as recorder:
        yield recorder


def without_probe(got: list[Got]) -> tuple[Got, ...]:
    """What was sent before the probe."""
    return tuple(one for one in got if one.target != b"/probe")


def gotten(taken: list[Recorded]) -> tuple[Got, ...]:
    """What a lenient server read, over all connections."""
    return without_probe([one for record in taken for one in record.got])


@ALL
def test_ours(router: Router, recorder: Recorder, name: str) -> None:
    case = CORPUS[name]
    upstream = target("v3", Endpoint("tcp", "127.0.0.1", recorder.port, authority="model.test"))
    router.serve(model(upstream), model(upstream, name="stream", buffer=1024))

    statuses, kept = verdict(router.ports["default"], case.sent, head_only=case.sent.startswith(b"HEAD"))

    router.settle()
    taken = recorder.take(closed=True)
    assert Verdict(statuses, gotten(taken), kept) == case.verdict
    read = [one for record in taken for one in strictly(bytes(record.raw), cut=case.cut)]
    assert without_probe(read) == case.got
    assert len(read) - len(case.got) == bool(kept), "the probe arrived, and nothing else did"


def check_peer(peer: tuple[int, Recorder], name: str, program: str) -> None:
    """Asserts that `program` judges as we do, or that the corpus knows why it may not."""
    case = CORPUS[name]
    port, recorder = peer

    statuses, kept = verdict(port, case.sent, head_only=case.sent.startswith(b"HEAD"))

    theirs = Verdict(statuses, gotten(recorder.take(closed=True)), kept)
    if program not in case.differ:
        assert theirs.coarse() == case.verdict.coarse(), f"{program} differs, and the corpus does not say why"


@pytest.mark.needs("nginx")
@ALL
def test_nginx(nginx_peer: tuple[int, Recorder], name: str) -> None:
    check_peer(nginx_peer, name, "nginx")


@pytest.mark.needs("haproxy")
@ALL
def test_haproxy(haproxy_peer: tuple[int, Recorder], name: str) -> None:
    check_peer(haproxy_peer, name, "haproxy")


def test_every_difference_has_a_reason_in_the_standard() -> None:
    reasons = {reason for case in CORPUS.values() for reason in case.differ.values()}

    assert len(CORPUS) > 190
    assert all("RFC " in reason for reason in reasons)
