from __future__ import annotations

import csv
import io
import json

import pytest

from router.config.problems import Problem
from router.control.needs import Fact
from router.control.reload import Change
from router.core.outcome import Arm, ArmBatch, OutcomeBatch, histogram_of
from router.store.audit import AuditEntry
from router.web.dashboard.site import Viewer
from tests.unit.web.conftest import Desk, ready
from tests.unit.web.dashboard.conftest import NOBODY, OPERATOR, VIEWER, Browser

pytestmark = pytest.mark.anyio

ROLLBACK = "/models/fraud/rollback?version=v4"
ROLLOUT = """\
model: fraud
versions:
  v3: {upstreams: [http://127.0.0.1:9003]}
  v4: {upstreams: [http://127.0.0.1:9004]}
stable: v3
regions:
  default: {v3: 100}
rollout:
  canary: v4
  steps:
    - {weight: 10%, hold: 10m}
    - {weight: 50%, approval: true}
"""


@pytest.fixture
def browser(desk: Desk) -> Browser:
    desk.write()
    desk.settle({"v3": ready(9003), "v4": ready(9004)})
    return Browser(desk)


def latched(browser: Browser) -> list[str]:
    return browser.desk.control.helm.steering.rolled_back("fraud")


def served(browser: Browser) -> None:
    arms = (
        ArmBatch(Arm("fraud", "default", "v4", "d9004", 1000, 9000, canary=True),
                 ((200, "ok", True, 30), (502, "failure", True, 10)), duration=histogram_of([0.02] * 40)),
        ArmBatch(Arm("fraud", "default", "v3", "d9003", 9000, 9000, canary=False),
                 ((200, "ok", True, 400),), duration=histogram_of([0.01] * 400)),
    )  # fmt: skip
    browser.desk.control.totals.add(OutcomeBatch(0, 1, 1, arms))


async def test_the_first_page_shows_weights_rates_and_failures(browser: Browser) -> None:
    served(browser)
    page = (await browser.get("/")).text
    assert 'href="/models/fraud"' in page
    assert "risk-ml" in page
    assert '<span class="chip going">canary</span>' in page
    assert "25\u00a0%" in page


async def test_no_page_has_a_script_or_a_style_within_it(browser: Browser) -> None:
    for path in ("/", "/models/fraud", "/history", "/system", ROLLBACK):
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        assert "style=" not in answer.text
        assert "<style" not in answer.text
        assert answer.text.count("<script") == answer.text.count("<script src=")
        assert "unsafe" not in answer.headers["content-security-policy"]


async def test_what_others_wrote_is_escaped(browser: Browser) -> None:
    problem = Problem("models/fraud.yaml", 8, 3, "regions", "<script>alert(1)</script>", "fraud")
    browser.desk.control._act(browser.desk.control.controller.apply([Change("fraud", problems=(problem,))]))
    page = (await browser.get("/models/fraud")).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "config problem" in page


async def test_search_sort_and_pages(browser: Browser) -> None:
    changes = [Change(f"m{n:04}", problems=()) for n in range(120)]
    browser.desk.control._act(browser.desk.control.controller.apply(changes))
    first = (await browser.get("/?sort=name")).text
    assert "Page 1 of 3" in first
    assert "m0119" not in first
    assert "Page 3 of 3" in (await browser.get("/?sort=rate&page=99")).text
    found = (await browser.get("/?q=M0119")).text
    assert "m0119" in found
    assert "m0118" not in found
    assert "No model matches" in (await browser.get("/?q=nothing%20like%20this")).text
    for sort in ("stable", "canary", "changed", "nonsense"):
        assert (await browser.get(f"/?sort={sort}&page=x")).status_code == 200


async def test_a_model_shows_its_steps_versions_and_evidence(browser: Browser) -> None:
    browser.desk.write(ROLLOUT)
    browser.desk.settle({"v3": ready(9003), "v4": ready(9004)})
    served(browser)
    page = (await browser.get("/models/fraud?window=all")).text
    assert 'class="now" aria-current="step"' in page
    assert "10:00 left of 10\u00a0min" in page
    assert "after approval" in page
    assert "Status 502" in page
    assert "≤ 25\u00a0ms" in page
    assert (await browser.get("/models/nobody")).status_code == 404


async def test_a_server_that_is_down_is_said_on_both_pages(browser: Browser) -> None:
    browser.desk.settle({"v3": ready(9003), "v4": Fact("unready", "connection refused", given_up=True)})
    assert "connection refused" in (await browser.get("/models/fraud")).text
    assert "canary unready" in (await browser.get("/")).text


@pytest.mark.parametrize("viewer", [VIEWER, NOBODY, Viewer("eve", "operator", "")])
async def test_who_may_not_sees_no_button_and_no_form(browser: Browser, viewer: Viewer) -> None:
    browser.viewer = viewer
    assert "/rollback" not in (await browser.get("/models/fraud")).text
    assert (await browser.get(ROLLBACK)).status_code == 403
    assert (await browser.post(ROLLBACK, csrf=viewer.csrf, reason="x", expect="1")).status_code == 403


async def test_a_form_shows_what_will_happen(browser: Browser) -> None:
    page = (await browser.get(ROLLBACK)).text
    assert "v4 is rolled back" in page
    assert '<td class="n">10\u00a0%</td><td class="n"><b>0\u00a0%</b></td>' in page
    assert (await browser.get("/models/fraud/promote?version=v4")).text.count("does not apply") == 1
    for path in ("/models/fraud/rollback?version=v9", "/models/fraud/destroy?version=v4"):
        assert (await browser.get(path)).status_code == 404


async def test_a_rollback_needs_the_session_and_a_reason(browser: Browser) -> None:
    assert (await browser.post(ROLLBACK, csrf="another", reason="odd", expect="1")).status_code == 403
    assert (await browser.post(ROLLBACK, csrf="c5rf", reason=" ", expect="1")).status_code == 422
    assert (await browser.post(ROLLBACK, csrf="c5rf", reason="x" * 1001, expect="1")).status_code == 422
    assert (await browser.post(ROLLBACK, csrf="c5rf", reason="x", expect="")).status_code == 422
    assert (await browser.post(ROLLBACK, csrf="c5rf", reason="x" * 20_000, expect="1")).status_code == 403
    assert latched(browser) == []
    done = await browser.post(ROLLBACK, csrf="c5rf", reason="odd scores", expect="1")
    assert (done.status_code, done.headers["location"]) == (303, "/models/fraud?done=rollback")
    assert latched(browser) == ["v4"]
    assert (await browser.post(ROLLBACK, csrf="c5rf", reason="again", expect="1")).status_code == 409
    browser.viewer = OPERATOR
    assert "Rolled back" in (await browser.get("/models/fraud?done=rollback")).text


async def test_the_history_is_filtered_paged_and_exported(browser: Browser) -> None:
    recorder = browser.desk.control.helm.recorder
    for number in range(120):
        await recorder.note(
            AuditEntry(time=1.0, actor="alice" if number % 2 else "bob", action="pause", model="fraud",
                       reason=f"=reason {number}", before={"phase": "idle"}), [])  # fmt: skip
    page = (await browser.get("/history?actor=alice")).text
    assert "=reason 119" in page
    assert "=reason 118" not in page
    assert "Older" in page
    assert "=reason 0" in (await browser.get("/history?before=3")).text
    exported = json.loads((await browser.get("/history.json?actor=bob&action=pause")).text)
    assert len(exported) == 60
    rows = list(csv.DictReader(io.StringIO((await browser.get("/history.csv")).text)))
    assert rows[0]["reason"] == "'=reason 119"
    assert json.loads(rows[0]["before"]) == {"phase": "idle"}
    assert (await browser.get("/history.xml")).status_code == 404
    await browser.dashboard.context.changes.follow()
    assert "pause by alice" in (await browser.get("/")).text


async def test_assets_are_kept_by_browsers_for_ever(browser: Browser) -> None:
    page = (await browser.get("/")).text
    path = page.split('rel="stylesheet" href="')[1].split('"')[0]
    answer = await browser.get(path)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert (await browser.get("/static/0/none.js")).status_code == 404
