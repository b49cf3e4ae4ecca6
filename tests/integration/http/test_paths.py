"""Prediction paths and the raw target (product.md's path table)."""

from __future__ import annotations

import json

import pytest

from tests.support.dataplane import Router, Wire, answer, endpoint, model, post, request, target
from tests.support.stub_upstream import StubUpstream

KNOWN = [
    (b"POST", b"/models/fraud/invocations", "/invocations"),
    (b"POST", b"/models/fraud/invocations?a=1&b=%2F", "/invocations?a=1&b=%2F"),
    (b"POST", b"/models/fraud/predict", "/predict"),
    (b"GET", b"/models/fraud/ping", "/ping"),
    (b"DELETE", b"/models/fraud/a/b/c", "/a/b/c"),
    (b"GET", b"/models/fraud/", "/"),
    (b"GET", b"/models/fraud", "/"),
    (b"GET", b"/models/fraud?x=/../y", "/?x=/../y"),
    (b"GET", b"/models/fraud/a%20b/%41?q=%", "/a%20b/%41?q=%"),
    (b"GET", b"/models/fraud//double", "//double"),
    (b"GET", b"/v2/models/fraud", "/v2/models/upstream-name"),
    (b"GET", b"/v2/models/fraud/ready", "/v2/models/upstream-name/ready"),
    (b"POST", b"/v2/models/fraud/versions/2/infer?x=1", "/v2/models/upstream-name/versions/2/infer?x=1"),
    (b"POST", b"/v1/models/fraud:predict", "/v1/models/upstream-name:predict"),
    (b"POST", b"/v1/models/fraud:predict?x=1", "/v1/models/upstream-name:predict?x=1"),
    (b"GET", b"/v1/models/fraud", "/v1/models/upstream-name"),
    (b"GET", b"/v1/models/fraud/metadata", "/v1/models/upstream-name/metadata"),
    (b"POST", b"/endpoints/fraud/invocations", "/invocations"),
    (b"POST", b"/serving-endpoints/fraud/invocations", "/invocations"),
    (b"POST", b"/serving-endpoints/fraud/invocations?x", "/invocations?x"),
    (b"POST", b"http://router.test/models/fraud/invocations?x", "/invocations?x"),
    (b"POST", b"HTTP://router.test/models/fraud/invocations", "/invocations"),
]


@pytest.mark.parametrize(("method", "path", "seen"), KNOWN)
def test_known_path_reaches_the_model_server(
    router: Router, stub: StubUpstream, method: bytes, path: bytes, seen: str
) -> None:
    router.serve(model(target("v3", stub, upstream_model="upstream-name")))

    response = router.ask(request(method, path, b"content-length: 2") + b"{}", method.decode())

    assert response.status == 200
    assert (stub.requests[0].method, stub.requests[0].target) == (method.decode(), seen)


def test_base_path_goes_before_every_path(router: Router, stub: StubUpstream) -> None:
    router.serve(model(target("v3", endpoint(stub, base_path="/base/path"))))

    router.ask(post())
    router.ask(post(path=b"/v2/models/fraud/infer"))

    assert [seen.target for seen in stub.requests] == ["/base/path/invocations", "/base/path/v2/models/fraud/infer"]


UNKNOWN = [
    (b"/", "unknown-path"),
    (b"/metrics", "unknown-path"),
    (b"//models/fraud/invocations", "unknown-path"),
    (b"/models", "unknown-path"),
    (b"/Models/fraud/invocations", "unknown-path"),
    (b"/endpoints/fraud/other", "unknown-path"),
    (b"/endpoints/fraud", "unknown-path"),
    (b"/v3/models/fraud/infer", "unknown-path"),
    (b"/v2/models", "unknown-path"),
    (b"/v2/health/other", "unknown-path"),
    (b"http://router.test", "unknown-path"),
    (b"*", "unknown-path"),
    (b"ftp://router.test/models/fraud/x", "unknown-path"),
    (b"/models/", "unknown-model"),
    (b"/models//invocations", "unknown-model"),
    (b"/models/frau/invocations", "unknown-model"),
    (b"/models/FRAUD/invocations", "unknown-model"),
    (b"/models/fraud%20/invocations", "unknown-model"),
    (b"/models/%66raud/invocations", "unknown-model"),
    (b"/models/fraud%2finvocations", "unknown-model"),
    (b"/models/../models/fraud/invocations", "unknown-model"),
    (b"/v1/models/other:predict", "unknown-model"),
    (b"/v1/models/other/versions/1:predict", "unknown-model"),
    (b"/v2/models/other/infer", "unknown-model"),
    (b"/endpoints/other/invocations", "unknown-model"),
]


@pytest.mark.parametrize(("path", "name"), UNKNOWN)
def test_unknown_path_is_404(router: Router, stub: StubUpstream, path: bytes, name: str) -> None:
    router.serve(model(target("v3", stub)))

    response = router.ask(request(b"OPTIONS" if path == b"*" else b"POST", path, b"content-length: 0"))

    assert response.status == 404
    assert json.loads(response.body)["type"] == f"urn:canary-router:problem:{name}"
    assert response.header("proxy-status") == "canary-router; error=destination_not_found"
    assert b"fraud" not in response.body
    assert not stub.requests


BADLY_ESCAPED = [
    b"/models/fraud/a%",
    b"/models/fraud/a%2",
    b"/models/fraud/a%2/b",
    b"/models/fraud/%zz",
    b"/models/fraud/%u0041",
    b"/models/fraud/a%00",
    b"/models/fraud/a%00b?q=1",
    b"/models/frau%/invocations",
    b"/v2/models/fraud/%g0",
    b"http://router.test/models/fraud/%",
]


@pytest.mark.parametrize("path", BADLY_ESCAPED)
def test_a_path_that_is_badly_escaped_is_refused(router: Router, stub: StubUpstream, path: bytes) -> None:
    router.serve(model(target("v3", stub)))
    client = router.connect()

    response = client.ask(post(path=path))

    assert response.status == 400
    problem = json.loads(response.body)
    assert problem["type"] == "urn:canary-router:problem:malformed-request"
    assert "model" not in problem
    assert not stub.requests
    assert client.ended()


LEAVING = [
    b"/models/fraud/..",
    b"/models/fraud/../other",
    b"/models/fraud/a/../../other",
    b"/models/fraud/./a",
    b"/models/fraud/%2e%2e/other",
    b"/models/fraud/%2E./other",
    b"/models/fraud/.%2e",
    b"/models/fraud/a%2f..%2fb",
    b"/models/fraud/a%2F%2e%2e",
    b"/models/fraud/%252e%252e/other",
    b"/models/fraud/a%252f..%252fb",
    b"/models/fraud/%25252525252e%252e/x",
    b"/models/fraud/..\\other",
    b"/models/fraud/a%5c..%5cb",
    b"/models/fraud/..;/admin",
    b"/models/fraud/..;a=b/admin",
    b"/models/fraud/%2e%2e%3b/admin",
    b"/v2/models/fraud/../other",
    b"/v2/models/fraud/%2e%2e/other",
    b"/v1/models/fraud:predict/../x",
    b"http://router.test/models/fraud/../other",
]


@pytest.mark.parametrize("path", LEAVING)
def test_path_that_could_leave_the_models_prefix_is_refused(router: Router, stub: StubUpstream, path: bytes) -> None:
    router.serve(model(target("v3", stub)))

    response = router.ask(post(path=path))

    assert response.status == 400
    assert json.loads(response.body)["type"] == "urn:canary-router:problem:bad-path"
    assert not stub.requests


@pytest.mark.parametrize("path", [b"/models/fraud/...", b"/models/fraud/a..b", b"/models/fraud/.well-known/x;v=1"])
def test_dots_in_a_name_are_no_dot_segments(router: Router, stub: StubUpstream, path: bytes) -> None:
    router.serve(model(target("v3", stub)))

    assert router.ask(post(path=path)).status == 200
    assert stub.requests[0].target == path.decode().removeprefix("/models/fraud")


@pytest.mark.parametrize(("what", "body"), [(b"live", b'{"live":true}'), (b"ready", b'{"ready":true}')])
def test_open_inference_health_is_the_routers_own(router: Router, wire: Wire, what: bytes, body: bytes) -> None:
    router.serve(model(target("v3", wire)))
    client = router.connect()

    response = client.ask(request(b"GET", b"/v2/health/" + what + b"?x"))

    assert (response.status, response.body) == (200, body)
    assert response.header("content-type") == "application/json"
    assert response.header("x-request-id")
    assert client.ask(request(b"HEAD", b"/v2/health/" + what), "HEAD").header("content-length") == str(len(body))
    assert client.ask(request(b"GET", b"http://router.test/v2/health/" + what)).status == 200
    refused = client.ask(post(path=b"/v2/health/" + what))
    assert refused.status == 405
    assert refused.header("allow") == "GET, HEAD"


def test_health_is_not_ready_before_the_first_snapshot(router: Router) -> None:
    router.on_loop(lambda: setattr(router.worker, "_holds", False))
    try:
        response = router.ask(request(b"GET", b"/v2/health/ready"))
    finally:
        router.on_loop(lambda: setattr(router.worker, "_holds", True))

    assert response.status == 503
    assert response.header("retry-after") == "1"


def test_regions_have_their_own_versions(tmp_path_factory: pytest.TempPathFactory, stub: StubUpstream) -> None:
    with Router(tmp_path_factory.mktemp("run"), regions=("eu-west", "us-east")) as router:
        west = model(target("v4", stub), regions=("eu-west",))
        router.serve(west)
        answers = {}
        for region in router.regions:
            client = router.connect(region)
            answers[region] = client.ask(post())

        assert answers["eu-west"].header("x-model-version") == "v4"
        assert answers["us-east"].status == 404
        router.settle()


def test_two_models_do_not_meet(router: Router, wire: Wire, stub: StubUpstream) -> None:
    router.serve(model(target("v1", wire), name="a.b"), model(target("v2", stub), name="a"))
    client = router.connect()

    client.send(post(path=b"/models/a.b/invocations"))
    served, _ = wire.get()
    served.send(answer(b"from a.b"))

    assert client.response().body == b"from a.b"
    assert client.ask(post(path=b"/models/a/invocations")).header("x-model-version") == "v2"
