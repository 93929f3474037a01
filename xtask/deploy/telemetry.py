"""Checks that the objects for telemetry fit together in a rendering, and are open to nobody else."""

import json
from collections.abc import Iterator
from pathlib import Path

import yaml
from manifests import Manifest, containers, label, pod_templates

FILES = Path(__file__).resolve().parents[2] / "deploy/helm/fireflow/files"
COMPONENT = "app.kubernetes.io/component"
LISTEN = "FIREFLOW_METRICS_LISTEN"
# The rules select jobs with this name.
JOB = "fireflow"


def faults(manifests: list[Manifest], egress_ports: set[int]) -> list[str]:
    """The faults. `egress_ports` are the ports of the collector and of Sentry, if they are set."""
    found: list[str] = []
    for check in (_ports, _services, _routes, _monitors, _copies, _ingress):
        found += check(manifests)
    return [*found, *_egress(manifests, egress_ports)]


def _of(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _settings(manifests: list[Manifest], template: Manifest) -> dict[str, str]:
    names = {
        source["configMapRef"]["name"]
        for _, container in containers(template["spec"])
        for source in container.get("envFrom") or []
    }
    settings: dict[str, str] = {}
    for config in _of(manifests, "ConfigMap"):
        settings |= config["data"] if config["metadata"]["name"] in names else {}
    return settings


def _metrics_port(manifests: list[Manifest]) -> int | None:
    for _, template in pod_templates(_of(manifests, "Deployment")):
        for _, container in containers(template["spec"]):
            for port in container.get("ports") or []:
                if port.get("name") == "metrics":
                    number: int = port["containerPort"]
                    return number
    return None


def _ports(manifests: list[Manifest]) -> Iterator[str]:
    port = _metrics_port(manifests)
    for deployment, template in pod_templates(_of(manifests, "Deployment")):
        settings = _settings(manifests, template)
        listen = settings.get(LISTEN)
        if (listen is None) != (port is None) or (listen and not listen.endswith(f":{port}")):
            yield f"{label(deployment)}: metrics are at {listen}, its port for them is {port}"
        if listen is not None and listen.rpartition(":")[0] != settings["FIREFLOW_LISTEN"].rpartition(":")[0]:
            yield f"{label(deployment)}: metrics are at another address than the API"


def _leads_to_metrics(service: Manifest, port: int | None) -> bool:
    return any(it.get("targetPort", it["port"]) in ("metrics", port) for it in service["spec"]["ports"])


def _services(manifests: list[Manifest]) -> Iterator[str]:
    port = _metrics_port(manifests)
    found = [service for service in _of(manifests, "Service") if _leads_to_metrics(service, port)]
    if len(found) != (0 if port is None else 1):
        yield f"{len(found)} Services lead to the metrics"
    for service in found:
        spec = service["spec"]
        if service["metadata"]["labels"][COMPONENT] != "metrics" or len(spec["ports"]) != 1:
            yield f"{label(service)}: leads to the metrics, and is for others too"
        # With a cluster IP, each scrape could reach another pod.
        if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("clusterIP") != "None":
            yield f"{label(service)}: leads to the metrics, and is not headless"
        if spec.get("externalIPs") or spec.get("ipFamilyPolicy"):
            yield f"{label(service)}: leads to the metrics from outside, or twice"


def _routes(manifests: list[Manifest]) -> Iterator[str]:
    port = _metrics_port(manifests)
    hidden = {
        service["metadata"]["name"]
        for service in _of(manifests, "Service")
        if _leads_to_metrics(service, port) or service["metadata"]["labels"][COMPONENT] == "metrics"
    }
    for ingress in _of(manifests, "Ingress"):
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        if any(path["backend"]["service"]["name"] in hidden for path in paths):
            yield f"{label(ingress)}: leads to the metrics"
    for route in _of(manifests, "HTTPRoute"):
        backends = [backend for rule in route["spec"]["rules"] for backend in rule["backendRefs"]]
        if any(backend["name"] in hidden for backend in backends):
            yield f"{label(route)}: leads to the metrics"


def _monitors(manifests: list[Manifest]) -> Iterator[str]:
    for monitor in _of(manifests, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        chosen = [
            service
            for service in _of(manifests, "Service")
            if wanted.items() <= service["metadata"]["labels"].items()
        ]
        if len(chosen) != 1:
            yield f"{label(monitor)}: selects {len(chosen)} Services"
            continue
        service = chosen[0]
        if service["metadata"]["labels"].get(monitor["spec"].get("jobLabel", "")) != JOB:
            yield f"{label(monitor)}: its job is not called {JOB}, as the rules take it to be"
        names = {port["name"] for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in names or endpoint.get("path") != "/metrics":
                yield f"{label(monitor)}: scrapes {endpoint}, which is not there"


def _copies(manifests: list[Manifest]) -> Iterator[str]:
    """Checks that Helm copies the rules and the dashboard unchanged, without evaluating templates in them."""
    for rule in _of(manifests, "PrometheusRule"):
        if rule["spec"] != yaml.safe_load((FILES / "fireflow.rules.yaml").read_text(encoding="utf-8")):
            yield f"{label(rule)}: is not what the file says"
    for config in _of(manifests, "ConfigMap"):
        if config["metadata"]["labels"][COMPONENT] != "metrics":
            continue
        file = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
        if [json.loads(text) for text in config["data"].values()] != [file]:
            yield f"{label(config)}: is not what the file says"


def _policies(manifests: list[Manifest], template: Manifest) -> list[Manifest]:
    labels = template["metadata"].get("labels") or {}
    return [
        policy
        for policy in _of(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]


def _ingress(manifests: list[Manifest]) -> Iterator[str]:
    port = _metrics_port(manifests)
    for deployment, template in pod_templates(_of(manifests, "Deployment")):
        for policy in _policies(manifests, template):
            for rule in policy["spec"].get("ingress") or []:
                ports = {it.get("port") for it in rule.get("ports") or []}
                opens = not ports or bool(ports & {"metrics", port} - {None})
                if opens and (len(ports) != 1 or not rule.get("from")):
                    yield f"{label(policy)}: lets everybody at the metrics of {label(deployment)}"


def _egress(manifests: list[Manifest], wanted: set[int]) -> Iterator[str]:
    """Checks that pods with the settings of the collector and of Sentry may also reach them."""
    for workload, template in pod_templates(manifests):
        settings = _settings(manifests, template)
        if not {"FIREFLOW_OTLP_ENDPOINT", "FIREFLOW_SENTRY_DSN_FILE"} & set(settings):
            continue
        policies = _policies(manifests, template)
        rules = [rule for policy in policies for rule in policy["spec"].get("egress") or []]
        ports = {it["port"] for rule in rules for it in rule.get("ports") or []}
        if policies and not wanted <= ports:
            missing = ", ".join(str(port) for port in sorted(wanted - ports))
            yield f"{label(workload)}: its NetworkPolicy does not let it reach port {missing}"
