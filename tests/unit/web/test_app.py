from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from router.config.problems import Problem
from router.control.needs import Fact
from router.control.reload import Change
from router.core.outcome import Arm, ArmBatch, InFlight, OutcomeBatch, histogram_of
from router.web.app import build_app
from tests.unit.web.conftest import Desk, ready

pytestmark = pytest.mark.anyio

PROBLEM = Problem("models/fraud.yaml", 8, 3, "regions.default", "weights sum to 90", "fraud")
ARM = Arm("fraud", "default", "v4", "d9004", 1000, 9000, canary=True)


async def get(
    desk: Desk, path: str, *, peer: str = "127.0.0.1", accept: str = "*/*", method: str = "GET"
) -> httpx.Response:
    transport = httpx.ASGITransport(
        build_app(desk.control, tokens=(), read_token="loopback"), client=(peer, 1), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, headers={"accept": accept})


async def model(desk: Desk, query: str = "") -> dict[str, Any]:
    answer = await get(desk, f"/api/v1/models/fraud{query}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_model_shows_its_weights_versions_and_config(desk: Desk) -> None:
    desk.write()
    desk.settle({"v3": ready(9003), "v4": ready(9004, authorization="Bearer hush")})
    desk.control.totals.add(OutcomeBatch(0, 1, 1, (ArmBatch(ARM, ((200, "ok", True, 3), (502, "failure", True, 1))),)))
    shown = await model(desk)
    assert shown["declared"] == shown["effective"] == {"v3": 90, "v4": 10}
    assert shown["observed"] == {"v3": 0, "v4": 100}
    assert (shown["model"], shown["owner"], shown["region"], shown["stable"]) == ("fraud", "risk-ml", "default", "v3")
    assert shown["regions"]["default"]["declared"] == {"v3": 90, "v4": 10}
    canary = shown["versions"]["v4"]
    assert canary.pop("rollout")["phase"] == "idle"
    assert canary.pop("evidence")["errors"]["e"] == 1.0
    assert canary.pop("verdict") is None
    assert canary == {
        "state": "ready",
        "reason": "",
        "counts": {"ok": 3, "failure": 1},
        "resolved": None,
        "digest": "d9004",
        "endpoints": [{"address": "http://127.0.0.1:9004", "healthy": True}],
        "gates": [],
    }
    assert shown["config"] == {"revision": "rev1", "digest": "digest of fraud", "problems": []}
    assert "hush" not in json.dumps(shown)


async def test_a_version_that_is_not_ready_says_why_and_gets_nothing(desk: Desk) -> None:
    desk.write()
    desk.settle({"v3": ready(9003), "v4": Fact("unready", "connection refused", given_up=True)})
    shown = await model(desk)
    assert shown["effective"] == {"v3": 100, "v4": 0}
    assert shown["versions"]["v4"]["state"] == "unready"
    (problem,) = shown["config"]["problems"]
    assert (problem["path"], problem["message"]) == ("versions.v4", "connection refused")


async def test_a_model_without_any_good_config_is_listed_with_its_problems(desk: Desk) -> None:
    desk.control._act(desk.control.controller.apply([Change("fraud", problems=(PROBLEM,))]))
    shown = await model(desk)
    assert shown["regions"] == shown["versions"] == {}
    assert shown["stable"] is shown["declared"] is shown["config"]["digest"] is None
    assert shown["config"]["problems"][0]["line"] == 8
    listed = (await get(desk, "/api/v1/models")).json()
    assert [entry["model"] for entry in listed["models"]] == ["fraud"]


async def test_regions(two_regions: Desk) -> None:
    two_regions.write()
    two_regions.settle({"v3": ready(9003), "v4": ready(9004)})
    assert (await model(two_regions))["declared"] is None
    assert set((await model(two_regions))["regions"]) == {"eu-west", "us-east"}
    shown = await model(two_regions, "?region=us-east")
    assert (shown["region"], shown["declared"]) == ("us-east", {"v3": 90, "v4": 10})
    answer = await get(two_regions, "/api/v1/models/fraud?region=mars")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/api/v1/models/nobody", "/api/v1/models/%3Cb%3E"])
async def test_what_is_not_there_is_a_problem(desk: Desk, path: str) -> None:
    answer = await get(desk, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404


async def test_a_bug_is_a_problem_that_says_nothing_of_itself(desk: Desk) -> None:
    desk.control.controller.models["fraud"] = None  # type: ignore[assignment]  # the bug
    for path in ("/api/v1/models", "/readyz"):
        answer = await get(desk, path)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "NoneType" not in answer.text


async def test_the_openapi_document_is_valid_and_complete(desk: Desk) -> None:
    document = (await get(desk, "/api/v1/openapi.json")).json()
    validate(document)
    assert set(document["paths"]) == {"/audit", "/models", "/models/{model}", "/models/{model}/{action}"}
    responses = document["paths"]["/models/{model}"]["get"]["responses"]
    assert "application/problem+json" in responses["404"]["content"]


async def test_liveness_and_readiness(desk: Desk) -> None:
    assert (await get(desk, "/livez")).status_code == 200
    answer = await get(desk, "/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the configs were not read and applied yet")
    desk.write()
    desk.settle({"v3": ready(9003), "v4": Fact("warming", "loads")})
    answer = await get(desk, "/readyz")
    assert answer.status_code == 503
    assert answer.json()["missing"] == [{"model": "fraud", "version": "v4", "region": "default", "reason": "loads"}]
    desk.settle({"v3": ready(9003), "v4": Fact("unready", "refused", given_up=True)})
    assert (await get(desk, "/readyz")).json()["reason"] == "workers do not hold the latest snapshot yet"
    desk.control.workers.applied = lambda: {0: 99}  # type: ignore[method-assign]  # a worker that has applied all
    assert (await get(desk, "/readyz")).status_code == 200
    desk.settle({"v3": ready(9003), "v4": Fact("warming", "loads")})
    assert (await get(desk, "/readyz")).status_code == 200
    desk.control.children.draining = True
    assert (await get(desk, "/readyz")).json()["reason"] == "draining"


async def test_strangers_may_ask_for_health_and_nothing_else(desk: Desk) -> None:
    desk.write()
    assert (await get(desk, "/livez", peer="10.0.0.5")).status_code == 200
    answer = await get(desk, "/readyz", peer="10.0.0.5")
    assert answer.status_code == 503
    assert "missing" not in answer.json()
    for path in ("/", "/metrics", "/api/v1/models", "/api/v1/openapi.json"):
        answer = await get(desk, path, peer="10.0.0.5")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="canary-router"')
    assert (await get(desk, "/livez", peer="10.0.0.5", method="POST")).status_code == 401


async def test_metrics(desk: Desk) -> None:
    desk.write()
    desk.settle({"v3": ready(9003), "v4": Fact("unready", "refused")})
    counts = ((200, "ok", True, 3), (200, "fallback", True, 1))
    batch = ArmBatch(ARM, counts, histogram_of([0.002, 99]), fallbacks=(("timeout", 1),), retries=2)
    desk.control.totals.add(OutcomeBatch(0, 1, 1, (batch,), (InFlight("fraud", "default", "v4", 5, 1),)))
    answer = await get(desk, "/metrics", accept="text/plain")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        if "version" in labels:
            labels = {"model": "fraud", "region": "default", **labels}
        return samples[f"canary_router_{name}", tuple(sorted(labels.items()))]

    assert value("requests_total", version="v4", code="200", outcome="ok") == 3
    assert value("requests_total", version="v4", code="200", outcome="fallback") == 1
    assert value("request_duration_seconds_bucket", version="v4", le="0.0025") == 1
    assert value("request_duration_seconds_bucket", version="v4", le="60.0") == 1
    assert value("request_duration_seconds_bucket", version="v4", le="+Inf") == 2
    assert value("request_duration_seconds_count", version="v4") == 2
    assert value("request_duration_seconds_sum", version="v4") == pytest.approx(99.002)
    assert value("upstream_duration_seconds_count", version="v4") == 0
    assert value("overhead_seconds_count", version="v4") == 0
    assert value("fallbacks_total", version="v4", reason="timeout") == 1
    assert value("retries_total", version="v4") == 2
    assert value("in_flight_requests", version="v4") == 5
    assert value("ejected_endpoints", version="v4") == 1
    assert value("ejected_endpoints", version="v3") == 0
    assert value("weight_ratio", version="v4", kind="declared") == 0.1
    assert value("weight_ratio", version="v4", kind="effective") == 0
    assert value("weight_ratio", version="v3", kind="effective") == 1
    assert value("version_state", version="v4", state="unready") == 1
    assert value("version_state", version="v4", state="ready") == 0
    assert value("config_info", revision="rev1") == 1
    assert value("config_reload_failures_total") == 0
    assert value("config_last_success_timestamp_seconds") == 0


async def test_openmetrics_where_it_is_asked_for(desk: Desk) -> None:
    answer = await get(desk, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_the_page(desk: Desk) -> None:
    desk.write()
    answer = await get(desk, "/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "fraud" in answer.text
