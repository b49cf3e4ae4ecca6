"""The split as clients see it: edits under load, the same key everywhere, nobody flipped back."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path

import pytest

from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import StubUpstream
from tests.support.traffic import Traffic
from tests.support.wait import eventually

MODEL = """
model: fraud
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions: {{default: {{v3: {rest}, v4: {weight}}}}}
stickiness: {{header: x-key}}
"""


def model(stable: StubUpstream, canary: StubUpstream, weight: int) -> str:
    return MODEL.format(stable=stable.url, canary=canary.url, weight=weight, rest=100 - weight)


def test_the_split_is_the_declared_one_and_raising_it_moves_nobody_off_the_canary(tmp_path: Path) -> None:
    keys = [f"customer-{number}" for number in range(400)]
    with StubUpstream() as stable, StubUpstream() as canary:
        router = RouterProcess(tmp_path, {"fraud": model(stable, canary, 10)}, workers=2)

        def versions() -> dict[str, str]:
            return {key: router.predict("fraud", headers={"x-key": key}).headers["x-model-version"] for key in keys}

        with router:
            eventually(lambda: router.model("fraud")["effective"].get("v4") == 10, what="v4 has its weight")
            first = versions()
            # Every request opens a connection, and the two workers share them out: a key gets the same from both.
            assert versions() == first
            router.edit("fraud", model(stable, canary, 20))
            eventually(lambda: router.model("fraud")["effective"]["v4"] == 20, what="v4 has 20 %")
            raised = versions()
        with router:
            eventually(lambda: router.model("fraud")["effective"].get("v4") == 20, what="v4 has 20 % after a restart")
            assert versions() == raised
    on_canary = {key for key, version in first.items() if version == "v4"}
    assert on_canary
    assert on_canary < {key for key, version in raised.items() if version == "v4"}


@pytest.mark.slow
def test_a_hundred_edits_under_load_fail_no_request_and_are_in_force_within_a_second(tmp_path: Path) -> None:
    with StubUpstream() as stable, StubUpstream() as canary:
        router = RouterProcess(tmp_path, {"fraud": model(stable, canary, 0)}, workers=2)
        with router:
            eventually(lambda: router.model("fraud")["versions"]["v4"]["state"] == "ready", what="v4 is ready")
            edited: list[float] = []
            took: list[float] = []
            # Every key is the same: with 0 % it must get v3 and with 100 % v4, whatever its slot.
            with Traffic(router.url, "fraud", rate=300, connections=12, key=lambda _: "one") as traffic:
                for number in range(100):
                    weight = 100 if number % 2 == 0 else 0
                    edited.append(time.monotonic())
                    router.edit("fraud", model(stable, canary, weight))
                    wanted = "v4" if weight else "v3"
                    took.append(_in_force(traffic, wanted, edited[-1], connections=12))
                    next_edit = edited[-1] + 0.3
                    time.sleep(max(0.0, next_edit - time.monotonic()))
            results = traffic.results
    assert not [result for result in results if result.status != 200]
    assert len(results) > 5000
    for result in results:
        allowed = _allowed(edited, result.sent, result.done)
        assert result.version in allowed, (result, allowed)
    took.sort()
    assert took[98] <= 1.0, took[-5:]


def _in_force(traffic: Traffic, wanted: str, since: float, connections: int) -> float:
    """Seconds from `since` until twice as many answers as connections came from `wanted`, one behind the other."""

    def settled() -> bool:
        last = traffic.results[-2 * connections :]
        return len(last) == 2 * connections and all(result.version == wanted and result.sent > since for result in last)

    eventually(settled, 10, f"{wanted} answers everywhere")
    return traffic.results[-2 * connections].done - since


def _allowed(edited: list[float], sent: float, done: float) -> set[str]:
    """The versions that some config allowed which was published within a second before, or during, a request."""
    first, last = bisect_right(edited, sent - 1.0), bisect_right(edited, done)
    # Before the first edit v4 has no weight; the edit with index i gives all to v4 where i is even.
    return {"v3" if index % 2 == 0 else "v4" for index in range(first, last + 1)}


def test_two_regions_split_each_by_its_own_line(tmp_path: Path) -> None:
    text = """
model: fraud
versions:
  v3: {{upstreams: ["{stable}"]}}
  v4: {{upstreams: ["{canary}"]}}
stable: v3
regions:
  default: {{v3: 100}}
  eu-west: {{v3: 0.5%, v4: 99.5}}
"""
    with StubUpstream() as stable, StubUpstream() as canary:
        models = {"fraud": text.format(stable=stable.url, canary=canary.url)}
        listen = ("eu-west=127.0.0.1:0", "us-east=127.0.0.1:0")
        with RouterProcess(tmp_path, models, listen=listen) as router:
            eventually(
                lambda: router.model("fraud", "eu-west")["effective"].get("v4") == 99.5, what="v4 has its weight"
            )
            counts = {
                region: Counter(router.predict("fraud", region=region).headers["x-model-version"] for _ in range(100))
                for region in ("eu-west", "us-east")
            }
    assert counts["us-east"] == {"v3": 100}
    assert counts["eu-west"]["v4"] >= 95
