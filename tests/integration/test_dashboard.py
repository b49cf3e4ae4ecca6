"""The dashboard in a real browser, on a real router with real models.

Rules:
1. Every test has a model of its own; the router and the browser are shared.
2. What a page says is waited for while nobody touches it: it has to come by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.integration.conftest import MlflowServer
from tests.support.browser import LOOKS, Scheme, Tab, chromium, tab
from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import Answer, StubUpstream
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

BY_HAND = """\
model: {name}
owner: risk-ml
description: Called by checkout.
versions:
  v3: {{upstreams: [{stable}]}}
  v4: {{upstreams: [{canary}]}}
stable: v3
regions:
  default: {{v3: 50, v4: 50}}
"""
WINE = """\
model: wine
owner: cellar
versions:
  v1: {model_uri: models:/wine/1}
  v2: {model_uri: models:/wine/2}
stable: v1
regions:
  default: {v1: 100}
rollout:
  canary: v2
  steps:
    - {weight: 15%, hold: 1s}
    - {weight: 20%, hold: 1s}
    - {weight: 25%, approval: true}
  promote_when: {no_worse_than_stable_by: 0.5pp, confidence: 95%, min_requests: 5}
"""
NAMES = ("quiet", "bad", "pressed", "dead", "forbidden")


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, StubUpstream]]:
    """A stable server for all, and a canary's for each model."""
    servers = {name: StubUpstream() for name in ("stable", *NAMES)}
    try:
        for server in servers.values():
            server.__enter__()
        yield servers
    finally:
        for server in servers.values():
            server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def router(
    tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, StubUpstream], mlflow_server: MlflowServer
) -> Iterator[RouterProcess]:
    """The router, with models of our own and one from the registry."""
    models = {
        name: BY_HAND.format(name=name, stable=upstreams["stable"].url, canary=upstreams[name].url) for name in NAMES
    }
    models["wine"] = WINE
    root = tmp_path_factory.mktemp("dashboard")
    with RouterProcess(root, models, arguments=["--registry", mlflow_server.url]) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, router: RouterProcess, tmp_path: Path) -> Iterator[Tab]:
    """A tab on the router."""
    with tab(browser, router.admin, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_page_is_accessible_and_fits(
    browser: Browser, router: RouterProcess, tmp_path: Path, width: int, scheme: Scheme
) -> None:
    for _ in range(5):
        router.predict("quiet")
    with tab(browser, router.admin, tmp_path, width=width, scheme=scheme) as opened:
        for name, path in (("models", "/"), ("model", "/models/quiet"), ("history", "/history"), ("system", "/system")):
            opened.page.goto(path)
            expect(opened.page.locator("h1")).to_be_visible()
            opened.check(name, width, scheme)


def test_a_rollout_is_watched_from_start_to_promotion(
    page: Tab, router: RouterProcess, mlflow_server: MlflowServer
) -> None:
    page.page.goto("/models/wine")
    expect(page.page.locator(".steps .now")).to_contain_text("15")
    with Traffic(router.url, "wine", connections=2, rate=60, body=json.dumps(mlflow_server.request(0)).encode()):
        expect(page.page.locator(".steps .done")).not_to_have_count(0, timeout=40_000)
        expect(page.page.get_by_role("heading", name="Canary v2: awaiting approval")).to_be_visible(timeout=40_000)
        status, _ = router.steer("wine", "approve", reason="looks good")
        assert status == 200
        expect(page.page.locator(".steps li").nth(1)).to_have_class("done", timeout=2000)
        expect(page.page.get_by_role("heading", name="Canary v2: completed")).to_be_visible(timeout=30_000)
    expect(page.page.locator(".steps .done")).to_have_count(3)
    assert page.said == []


def test_a_bad_canary_is_watched_until_its_rollback(
    page: Tab, router: RouterProcess, upstreams: dict[str, StubUpstream]
) -> None:
    page.page.goto("/models/bad")
    expect(page.page.get_by_role("heading", name="Canary v4: idle")).to_be_visible()
    upstreams["bad"].answer = Answer(500)
    for _ in range(40):
        router.predict("bad")
        if router.model("bad")["versions"]["v4"]["state"] == "rolled_back":
            break
    expect(page.page.get_by_role("heading", name="Canary v4: rolled back")).to_be_visible(timeout=2000)
    expect(page.page.get_by_text("Worse than stable")).to_be_visible()
    expect(page.page.locator("h1")).to_contain_text("rolled back")
    page.page.goto("/history?model=bad&action=rollback")
    expect(page.page.locator("tbody tr")).to_have_count(1)
    assert page.said == []


def test_a_dead_server_and_its_return(page: Tab, router: RouterProcess, upstreams: dict[str, StubUpstream]) -> None:
    page.page.goto("/models/dead")
    expect(page.page.get_by_text("healthy")).to_have_count(2)
    upstreams["dead"].refuse()
    expect(page.page.locator(".server .bad")).to_have_count(1, timeout=25_000)
    upstreams["dead"].listen()
    expect(page.page.locator(".server .bad")).to_have_count(0, timeout=25_000)
    assert page.said == []


def test_it_can_be_read_without_scripts(browser: Browser, router: RouterProcess, tmp_path: Path) -> None:
    with tab(browser, router.admin, tmp_path, scripts=False) as opened:
        opened.page.goto("/?q=quiet")
        expect(opened.page.locator("tbody tr")).to_have_count(1)
        opened.page.get_by_role("link", name="quiet").click()
        expect(opened.page.get_by_role("row", name="Latency p95")).to_be_visible()


def test_a_tab_nobody_looks_at_gives_its_stream_up(page: Tab, router: RouterProcess) -> None:
    page.page.goto("/models/forbidden")
    expect(page.page.get_by_role("heading", name="Canary v4: idle")).to_be_visible()
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    page.page.evaluate(hide % "true")
    assert router.steer("forbidden", "rollback", reason="nobody looks")[0] == 200
    page.page.evaluate(hide % "false")
    expect(page.page.get_by_role("heading", name="Canary v4: rolled back")).to_be_visible()
    assert page.said == []
