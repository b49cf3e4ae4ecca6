"""The rules, alerts and dashboards that are shipped, against what a real router and a real Prometheus say."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.router_process import RouterProcess
from tests.support.stub_upstream import StubUpstream
from tests.support.traffic import Traffic
from tests.support.wait import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
MODEL = """\
model: fraud
versions:
  v1: {{upstreams: [{stable}]}}
  v2: {{upstreams: [{canary}]}}
stable: v1
regions: {{default: {{v1: 75, v2: 25}}}}
guards: {{latency: {{p95: 100x stable}}}}
"""
NAME = re.compile(r"\bcanary_router[a-z0-9_:]*")
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def rules() -> dict[str, str]:
    """Every rule by name: what it records, or the alert."""
    groups = [
        group for file in ("recording.yaml", "alerts.yaml")
        for group in yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    ]  # fmt: skip
    return {rule.get("record") or rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels() -> list[tuple[str, str]]:
    """Every query of the dashboards: the panel's title and the expression, for one model."""
    queries = []
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                queries.append((panel["title"], target["expr"]))
        for note in dashboard["annotations"]["list"]:
            queries.append((note["name"], note["expr"]))
    return [(title, text.replace("$model", "fraud").replace("$region", ".*")) for title, text in queries]


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes `target` four times a second, with the rules that are shipped."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    config["rule_files"] = [str(directory / "recording.yaml"), str(PROMETHEUS / "alerts.yaml")]
    recording = (PROMETHEUS / "recording.yaml").read_text()
    (directory / "recording.yaml").write_text(recording.replace("interval: 15s", "interval: 250ms"))
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    log = directory / "prometheus.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [
                "prometheus", f"--config.file={directory / 'prometheus.yaml'}",
                f"--storage.tsdb.path={directory / 'data'}", "--web.listen-address=127.0.0.1:0",
            ],
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        found = eventually(lambda: re.search(r'"Listening on" address=(\S+)', log.read_text()), 30, "it listens")
        assert found
        with httpx.Client(base_url=f"http://{found.group(1)}/api/v1", trust_env=False, timeout=10.0) as client:
            yield client
    finally:
        server.terminate()
        server.wait(20)


def asked(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """What `expression` is now."""
    answer = client.get("/query", params={"query": expression})
    assert answer.status_code == 200, (expression, answer.text)
    result: list[dict[str, Any]] = answer.json()["data"]["result"]
    return result


@pytest.mark.needs("promtool")
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    told = subprocess.run(
        ["promtool", "test", "rules", str(PROMETHEUS / "rules.test.yaml")], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "SUCCESS" in told.stdout + told.stderr


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    for alert in group["rules"]:
        assert alert["labels"]["severity"] in {"page", "ticket", "info"}, alert["alert"]
        assert alert["annotations"].keys() == {"summary", "description"}, alert["alert"]
    paging = {alert["alert"] for alert in group["rules"] if alert["labels"]["severity"] == "page"}
    assert paging == {"CanaryRouterDown", "CanaryRouterClientsFail", "CanaryRouterRollbackUnwritten"}


@pytest.mark.needs("prometheus", "promtool")
def test_a_real_prometheus_compares_the_versions_and_answers_every_panel(tmp_path: Path) -> None:
    with StubUpstream() as stable, StubUpstream() as canary:
        models = {"fraud": MODEL.format(stable=stable.url, canary=canary.url)}
        with RouterProcess(tmp_path, models) as router, Traffic(router.url, "fraud"):
            admin = router.admin.removeprefix("http://")
            with prometheus(tmp_path, admin) as client:
                share = 'canary_router:share:rate5m{model="fraud",version="v2"}'
                eventually(lambda: asked(client, share), 30, "the canary's share is recorded")
                got = float(asked(client, share)[0]["value"][1])
                assert 0.05 < got < 0.6
                recorded = [name for name in rules() if ":" in name]
                eventually(lambda: all(asked(client, name) for name in recorded), 30, "every rule has recorded")
                for title, expression in panels():
                    assert isinstance(asked(client, expression), list), title
                assert client.get("/rules").json()["data"]["groups"]
                assert client.get("/alerts").json()["data"]["alerts"] == []
            shown = httpx.get(f"{router.admin}/metrics", trust_env=False).text
    checked = subprocess.run(["promtool", "check", "metrics"], input=shown, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    there = set(re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE)) | rules().keys()
    for title, expression in [*panels(), *rules().items()]:
        names = {SUFFIX.sub("", name) for name in NAME.findall(expression)}
        assert names <= there, title
