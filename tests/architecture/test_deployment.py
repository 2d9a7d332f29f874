"""The files that deploy the server: valid by their own schemas, closed by default, pinned."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose, PyOptions

from server.configuration import load_settings
from tests.architecture.source_tree import ROOT

KUBERNETES = sorted(
    path for path in (ROOT / "docker" / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"
)
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    written = (ROOT / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", written)  # as compose does where the variable is not set
    parsed = PyOptions(apply_merge=True).from_yaml(text)  # raises where the Compose specification does
    assert isinstance(parsed, PyCompose)
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return loaded


def check_schema(loaded: Any) -> None:
    """Raise where Kubernetes would refuse the object."""
    kubernetes_validate.validate(loaded, kubernetes_validate.latest_version(), strict=True)


def test_the_compose_file_follows_the_specification_and_has_its_profiles(services: dict[str, dict[str, Any]]) -> None:
    profiles = {name: service.get("profiles") for name, service in services.items()}
    assert profiles["bindchat"] is None
    assert profiles["bindchat-gpu"] == ["gpu"]
    assert {name for name, chosen in profiles.items() if chosen == ["observability"]} == {"prometheus", "grafana"}


def test_every_port_is_published_to_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["bindchat", "bindchat-gpu"])
def test_a_container_may_write_only_its_volumes(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["secrets"] == ["api_keys"]
    assert service["deploy"]["resources"]["limits"]["memory"]


def test_foreign_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images), images
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)


def test_the_image_runs_as_nobody_special_and_checks_itself() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert {"cpu", "cuda"} <= targets
    assert "USER 10001:10001" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE
    assert "/usr/bin/tini" in DOCKERFILE


def test_the_image_holds_what_runs_and_nothing_else() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"core", "media", "models", "cache_index", "engine", "server"} <= kept
    assert kept & {"tests", "training", "benchmarks", ".git"} == set()
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_every_kubernetes_object_follows_its_schema(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text())
    if loaded["kind"] == "Deployment":  # kustomize fills the selector in
        labels = {"app.kubernetes.io/name": "bindchat"}
        loaded["spec"]["selector"] = {"matchLabels": labels}
        loaded["spec"]["template"]["metadata"]["labels"] = labels
    check_schema(loaded)


def test_the_kustomization_lists_every_object() -> None:
    base = yaml.safe_load((ROOT / "docker" / "kubernetes" / "kustomization.yaml").read_text())
    assert sorted(base["resources"]) == [path.name for path in KUBERNETES]


def test_pods_are_probed_where_the_server_answers_without_a_key() -> None:
    (deployment,) = (yaml.safe_load(path.read_text()) for path in KUBERNETES if path.stem == "deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}


def _metrics_of(text: str) -> set[str]:
    """Return the metrics that expressions name, histograms without the parts Prometheus adds."""
    return {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"(?:bindchat|process)_[a-z_]+", text)}


def _labels_of(expression: str) -> set[str]:
    """Return the labels that an expression groups or selects by, without those that Prometheus gives every metric."""
    grouped = [name for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(", ")]
    return {*grouped, *re.findall(r'(\w+)(?:=~|!~|!=|=)"', expression)} - {"le", "instance", "job"}


def _asked_expressions() -> list[str]:
    rules = yaml.safe_load((ROOT / "docker" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((ROOT / "docker" / "grafana" / "dashboards" / "bindchat.json").read_text())["panels"]
    return [rule["expr"] for rule in rules] + [t["expr"] for panel in panels for t in panel["targets"]]


def test_the_ray_application_has_settings_that_exist_and_fits_its_demo() -> None:
    config = yaml.safe_load((ROOT / "docker" / "ray" / "serve.yaml").read_text())
    assert config["http_options"]["host"] == "127.0.0.1"
    (application,) = config["applications"]
    assert load_settings(application["args"], environ={}).model == "mini"  # raises for a name that is no setting
    assert {deployment["name"] for deployment in application["deployments"]} == {"Ingress", "Encoders", "Decoders"}
    cores = 0.0
    for deployment in application["deployments"]:
        scaling = deployment.get("autoscaling_config", {})
        least, most = (scaling.get(key, deployment.get("num_replicas")) for key in ("min_replicas", "max_replicas"))
        assert 2 <= least <= most
        cores += most * deployment["ray_actor_options"]["num_cpus"]
    assert cores <= 2


def test_dashboards_and_alerts_ask_for_metrics_that_exist() -> None:
    documented = _metrics_of((ROOT / "docs" / "metrics.md").read_text())
    asked = " ".join([*_asked_expressions(), (ROOT / "docker" / "kubernetes" / "autoscaler.yaml").read_text()])
    assert _metrics_of(asked) - documented == set()


def test_dashboards_and_alerts_group_and_select_by_labels_that_their_metrics_have() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([\w, ]*)\|", page, re.MULTILINE)
    labels = {name: set(listed.strip().split(", ")) for name, listed in rows}
    for expression in _asked_expressions():
        for metric in _metrics_of(expression):
            assert _labels_of(expression) <= labels[metric], expression


def test_alerts_watch_the_queue_the_engine_the_errors_and_the_memory() -> None:
    rules = yaml.safe_load((ROOT / "docker" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    expressions = {rule["alert"]: rule["expr"] for rule in rules}
    assert {"BindChatQueueGrowing", "BindChatEngineStalled", "BindChatErrors", "BindChatMemory"} <= set(expressions)
    held = {"process_resident_memory_bytes", "bindchat_subprocess_resident_memory_bytes"}
    assert _metrics_of(expressions["BindChatMemory"]) == held


def test_the_dashboard_is_the_one_its_script_writes() -> None:
    made = runpy.run_path(str(ROOT / "docker" / "grafana" / "dashboard.py"))["dashboard"]()
    assert json.loads((ROOT / "docker" / "grafana" / "dashboards" / "bindchat.json").read_text()) == made
