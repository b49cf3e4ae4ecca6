"""What is shipped to run the router elsewhere: valid by the schemas of what reads it, and by what the router says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from router.config.load import load_repository
from router.config.settings import Settings, load_settings
from router.web.auth import OPEN_PATHS

DEPLOY = Path(__file__).parents[3] / "deploy"
BASE = DEPLOY / "kustomize" / "base"
KUBERNETES = "1.31"


def documents(path: Path) -> list[dict[str, Any]]:
    """Every document of the file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def manifests() -> Iterator[dict[str, Any]]:
    """Every object of the base, as it is before kustomize."""
    for name in documents(BASE / "kustomization.yaml")[0]["resources"]:
        yield from documents(BASE / name)


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [manifest for manifest in manifests() if manifest["kind"] == kind]
    return found


def settings() -> Settings:
    return load_settings(BASE / "router.yaml", {}, {})


def named(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", list(manifests()), ids=named)
def test_manifests_are_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.needs("kubectl")
def test_what_kustomize_makes_is_valid_and_names_what_is_there() -> None:
    made = subprocess.run(["kubectl", "kustomize", str(BASE)], capture_output=True, text=True, check=True).stdout
    rendered = [document for document in yaml.safe_load_all(made) if document]
    for manifest in rendered:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "canary-router"
    maps = {manifest["metadata"]["name"] for manifest in rendered if manifest["kind"] == "ConfigMap"}
    (workload,) = [manifest for manifest in rendered if manifest["kind"] == "StatefulSet"]
    mounted = {
        volume["configMap"]["name"]
        for volume in workload["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    }
    assert mounted == maps


def test_there_is_one_router_that_may_end_in_peace() -> None:
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    assert of_kind("StatefulSet")["spec"]["replicas"] == 1
    assert pod["terminationGracePeriodSeconds"] > settings().drain_delay + settings().grace
    ready = pod["containers"][0]["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < settings().drain_delay


def test_the_container_has_no_more_rights_than_it_needs() -> None:
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert f"USER {pod['securityContext']['runAsUser']}:" in (DEPLOY.parent / "Dockerfile").read_text()


def test_probes_ports_and_selectors_meet() -> None:
    workload = of_kind("StatefulSet")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(map(str, ports.values())) == {
        settings().listen["default"].rpartition(":")[2],
        settings().admin.rpartition(":")[2],
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["httpGet"]["path"] in OPEN_PATHS
    labels = workload["spec"]["template"]["metadata"]["labels"]
    services = [manifest for manifest in manifests() if manifest["kind"] == "Service"]
    assert {service["spec"]["selector"].items() <= labels.items() for service in services} == {True}
    assert {port["targetPort"] for service in services for port in service["spec"]["ports"]} == set(ports)
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    (monitor,) = documents(DEPLOY / "kustomize" / "service-monitor" / "monitor.yaml")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (monitored,) = [service for service in services if wanted <= service["metadata"].get("labels", {}).items()]
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in monitored["spec"]["ports"]}


def test_the_configs_it_begins_with_are_good(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "example.yaml").write_text((BASE / "example.yaml").read_text())
    loaded = load_repository(tmp_path)
    assert (list(loaded.configs), loaded.problems) == (["example"], ())
    assert settings().read_token == "required"
    assert {token.role for token in settings().tokens} == {"viewer"}


def test_compose_is_valid_and_mounts_what_is_there() -> None:
    path = DEPLOY / "compose.yaml"
    assert PyCompose.from_yaml(path.read_text())
    services = documents(path)[0]["services"]
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), (name, source)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_grafana_finds_its_dashboards() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = documents(provisioning / "datasources" / "prometheus.yaml")[0]["datasources"]
    (provider,) = documents(provisioning / "dashboards" / "canary-router.yaml")[0]["providers"]
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    assert source["url"] == "$PROMETHEUS_URL"
    assert services["grafana"]["environment"]["PROMETHEUS_URL"] == "http://router:9091"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    for dashboard in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        panels = json.loads(dashboard.read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
