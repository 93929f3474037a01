"""Checks what no schema covers: that everything that compose.yaml, skaffold.yaml, docker/ and
deploy/observability/ name exists.

python xtask/deploy/compose.py
"""

import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
# A committed file must not contain a value under such a name, or a URL with a password.
SECRET_NAME = re.compile(r"(?i)(password|secret|token|headers|dsn)(?!.*_FILE$)")
SECRET_VALUE = re.compile(r"://[^/\s:]*:[^/\s@]+@")
# A tag with a version: at least two numbers, or one number and the name of the base image.
PINNED = re.compile(r":v?[0-9]+(\.[0-9]+)+$|:[0-9]+-[a-z]+$")
OBSERVABILITY = "deploy/observability"
PROFILE = "observability"
# Settings that send data to others. They must be unset by default.
SENT = ("FIREFLOW_OTLP_ENDPOINT", "FIREFLOW_SENTRY_DSN")


def stages(dockerfile: str) -> set[str]:
    """The stages of a Dockerfile."""
    return set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", dockerfile))


def compose_faults(compose: dict[str, Any], dockerfile: str) -> list[str]:
    """The faults of compose.yaml: names of missing things, and settings that are not safe."""
    faults = []
    services, volumes = compose["services"], compose["volumes"]
    used = set()
    for name, service in services.items():
        build = service.get("build")
        if build is not None:
            if not (ROOT / build["context"] / build["dockerfile"]).is_file():
                faults.append(f"{name}: {build['dockerfile']} is not there")
            if build["target"] not in stages(dockerfile):
                faults.append(f"{name}: the Dockerfile has no stage {build['target']}")
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                faults.append(f"{name}: depends on {other}, which is no service")
            elif how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                faults.append(f"{name}: waits for the health of {other}, which has no check")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                if not (ROOT / source).exists():
                    faults.append(f"{name}: {source} is not there")
            else:
                used.add(source)
                if source not in volumes:
                    faults.append(f"{name}: the volume {source} is not declared")
        for key, value in service.get("environment", {}).items():
            if value is None or str(value).startswith("${"):
                continue
            if SECRET_NAME.search(key) or SECRET_VALUE.search(str(value)):
                faults.append(f"{name}: {key} holds a secret")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                faults.append(f"{name}: {port} is open to other machines")
        is_watcher = PROFILE in service.get("profiles", [])
        if is_watcher or (build is not None and build["target"] == "runtime"):
            if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
                faults.append(f"{name}: its root can be written to, or it has capabilities")
            if "no-new-privileges:true" not in service.get("security_opt", []):
                faults.append(f"{name}: it may get new privileges")
        if build is None and not PINNED.search(service["image"]):
            faults.append(f"{name}: {service['image']} has no version")
    faults += [f"the volume {name} is not used" for name in sorted(set(volumes) - used)]
    return faults


def files_in(services: dict[str, Any], name: str) -> dict[str, Path]:
    """The repository's files that are mounted into a service, by their path inside it."""
    parts = [volume.split(":") for volume in services[name].get("volumes", [])]
    return {inside: ROOT / source for source, inside, *_ in parts if source.startswith("./")}


def observability_faults(compose: dict[str, Any], read: Callable[[str], Any]) -> list[str]:
    """Checks that the services for observability reach FireFlow and each other.

    `read` reads a file of the folder.
    """
    faults = []
    services = compose["services"]
    settings = services["fireflow"]["environment"]
    for name, service in services.items():
        if PROFILE not in service.get("profiles", []):
            continue
        for volume in service.get("volumes", []):
            if volume.startswith("./") and not volume.endswith(":ro"):
                faults.append(f"{name}: can change {volume.split(':')[0]}")

    # Without compose.env nothing is sent to others. With it, every setting in it is passed on.
    faults += [
        f"fireflow: {name} has a value of its own" for name in SENT if settings.get(name, 0) is not None
    ]
    file = dict(line.split("=", 1) for line in read("compose.env").splitlines() if re.match("[A-Z]", line))
    if file.pop("COMPOSE_PROFILES", None) != PROFILE:
        faults.append(f"compose.env: does not choose the profile {PROFILE}")
    faults += [f"compose.env: {name} is not passed on" for name in sorted(set(file) - set(settings))]

    # FireFlow sends to the collector, and the collector sends to Jaeger.
    collector, jaeger = read("otel-collector.yaml"), read("jaeger.yaml")
    heard = {of["endpoint"].rpartition(":")[2] for of in collector["receivers"]["otlp"]["protocols"].values()}
    url = urlsplit(file.get(SENT[0], ""))
    if url.hostname not in services or str(url.port) not in heard:
        faults.append(f"compose.env: nobody takes traces at {url.geturl()}")
    host, _, port = collector["exporters"]["otlp_grpc"]["endpoint"].partition(":")
    if host not in services or not jaeger["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(
        f":{port}"
    ):
        faults.append(f"otel-collector.yaml: nobody takes traces at {host}:{port}")
    for place, config in (("otel-collector.yaml", collector), ("jaeger.yaml", jaeger)):
        for kind, names in config["service"]["pipelines"]["traces"].items():
            missing = sorted(set(names) - set(config[kind]))
            faults += [f"{place}: the pipeline names {name}, which is not there" for name in missing]
    if collector["service"]["pipelines"]["traces"]["processors"][0] != "memory_limiter":
        faults.append("otel-collector.yaml: its memory is not limited first")

    # Prometheus scrapes FireFlow, and the rules and the dashboard are mounted where they are read.
    prometheus = read("prometheus.yml")
    metrics_port = str(settings.get("FIREFLOW_METRICS_LISTEN")).rstrip("}").rpartition(":")[2]
    targets = [
        t for job in prometheus["scrape_configs"] for of in job["static_configs"] for t in of["targets"]
    ]
    if targets != [f"fireflow:{metrics_port}"]:
        faults.append(f"prometheus.yml: scrapes {targets}, and metrics are at fireflow:{metrics_port}")
    seen = files_in(services, "prometheus")
    faults += [
        f"prometheus.yml: {rule} is not mounted" for rule in prometheus["rule_files"] if rule not in seen
    ]
    if any(port.endswith(f":{metrics_port}") for port in services["fireflow"]["ports"]):
        faults.append("fireflow: its metrics are open to others than the other containers")
    for source in read("grafana/datasources.yaml")["datasources"]:
        url = urlsplit(source["url"])
        if url.hostname not in services or not any(
            port.endswith(f":{url.port}") for port in services[url.hostname].get("ports", [])
        ):
            faults.append(f"datasources.yaml: {source['name']} is not at {source['url']}")
    seen = files_in(services, "grafana")
    for provider in read("grafana/dashboards.yaml")["providers"]:
        folder = provider["options"]["path"]
        if not any(inside.startswith(f"{folder}/") for inside in seen):
            faults.append(f"dashboards.yaml: nothing is mounted in {folder}")
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    if home not in seen:
        faults.append(f"grafana: {home} is not mounted")
    return faults


def read_observability(name: str) -> Any:
    """A file of deploy/observability: parsed if it is YAML, else its text."""
    text = (ROOT / OBSERVABILITY / name).read_text(encoding="utf-8")
    return yaml.safe_load(text) if name.endswith(("yaml", "yml")) else text


def planted_observability(text: str) -> list[str]:
    """Plants faults, because a check that cannot fail is useless. Returns the faults that are missed."""
    plants: list[tuple[str, str, str, str]] = [
        ("compose.env", "otel-collector:4317", "otel-collector:4319", "nobody takes traces at http"),
        ("compose.env", "=observability", "=none", "does not choose the profile"),
        (
            "compose.env",
            "FIREFLOW_OTLP__SAMPLE_RATIO",
            "FIREFLOW_SAMPLES",
            "FIREFLOW_SAMPLES is not passed on",
        ),
        ("otel-collector.yaml", "jaeger:4317", "tempo:4317", "nobody takes traces at tempo:4317"),
        ("otel-collector.yaml", "[memory_limiter, batch]", "[batch]", "its memory is not limited first"),
        ("jaeger.yaml", "receivers: [otlp]", "receivers: [zipkin]", "names zipkin, which is not there"),
        ("prometheus.yml", "fireflow:9464", "fireflow:9090", "scrapes ['fireflow:9090']"),
        ("prometheus.yml", "fireflow.rules.yaml", "rules.yaml", "/etc/prometheus/rules.yaml is not mounted"),
        ("grafana/datasources.yaml", "prometheus:9090", "prometheus:9091", "Prometheus is not at"),
        ("grafana/dashboards.yaml", "/etc/grafana/dashboards", "/dashboards", "nothing is mounted in"),
        ("compose.yaml", "FIREFLOW_OTLP_ENDPOINT:\n", "FIREFLOW_OTLP_ENDPOINT: http://a\n", "has a value"),
        ("compose.yaml", "jaeger.yaml:ro", "jaeger.yaml", "can change ./deploy/observability/jaeger.yaml"),
        ("compose.yaml", "-8080}:8080", "-8080}:9464", "open to others than the other containers"),
        ("compose.yaml", "/fireflow.json:ro", "/other.json:ro", "fireflow.json is not mounted"),
    ]
    missed = []
    for place, old, new, expected in plants:

        def read(name: str, place: str = place, old: str = old, new: str = new) -> Any:
            spoiled = (ROOT / OBSERVABILITY / name).read_text(encoding="utf-8")
            spoiled = spoiled.replace(old, new) if name == place else spoiled
            return yaml.safe_load(spoiled) if name.endswith(("yaml", "yml")) else spoiled

        compose = yaml.safe_load(text.replace(old, new) if place == "compose.yaml" else text)
        if not any(expected in fault for fault in observability_faults(compose, read)):
            missed.append(f"the checks of {OBSERVABILITY} do not find that {new.strip()} is in {place}")
    return missed


def skaffold_faults(skaffold: dict[str, Any], dockerfile: str) -> list[str]:
    """The things that skaffold.yaml names but that do not exist."""
    faults = []
    for artifact in skaffold["build"]["artifacts"]:
        docker = artifact["docker"]
        if not (ROOT / docker["dockerfile"]).is_file():
            faults.append(f"skaffold.yaml: {docker['dockerfile']} is not there")
        if docker["target"] not in stages(dockerfile):
            faults.append(f"skaffold.yaml: the Dockerfile has no stage {docker['target']}")
        for name in docker["buildArgs"]:
            if not re.search(rf"(?m)^ARG {name}=", dockerfile):
                faults.append(f"skaffold.yaml: the Dockerfile takes no {name}")
    for release in skaffold["deploy"]["helm"]["releases"]:
        for path in [f"{release['chartPath']}/Chart.yaml", *release["valuesFiles"]]:
            if not (ROOT / path).is_file():
                faults.append(f"skaffold.yaml: {path} is not there")
    return faults


def secret_faults() -> list[str]:
    """Runs the script that creates Compose's secrets twice, and checks them."""
    script = ROOT / "docker/make-secrets.sh"
    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for _ in range(2):
            # Only root can change a file's owner. For other users, `chown` does nothing.
            command = f'chown() {{ test "$(id -u)" != 0 || command chown "$@"; }}; . {script}'
            subprocess.run(["sh", "-c", command, "sh", folder], check=True)
            contents.append({path.name: path.read_text() for path in Path(folder).iterdir()})
        modes = {stat.S_IMODE(path.stat().st_mode) for path in Path(folder).iterdir()}
    first, second = contents
    if first != second:
        return ["make-secrets.sh: a second start changes them"]
    if set(first) != {"postgres-password", "database-url"} or modes != {0o600}:
        return [f"make-secrets.sh: {sorted(first)} with modes {modes}"]
    password = first["postgres-password"]
    if not re.fullmatch("[0-9a-f]{64}", password) or f":{password}@" not in first["database-url"]:
        return ["make-secrets.sh: the password is not 32 bytes, or not in the URL"]
    return []


def main() -> int:
    """Prints all faults."""
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    text = (ROOT / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    skaffold = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    faults = compose_faults(compose, dockerfile) + skaffold_faults(skaffold, dockerfile)
    faults += secret_faults()
    faults += observability_faults(compose, read_observability)
    # Real faults would hide planted ones.
    faults += [] if faults else planted_observability(text)
    # A check that cannot fail is useless, so each of these faults must be found.
    spoiled = yaml.safe_load(text)
    spoiled["services"]["fireflow"]["depends_on"]["nobody"] = {"condition": "service_started"}
    spoiled["services"]["fireflow"]["ports"] = ["8080:8080"]
    spoiled["services"]["fireflow"]["volumes"].append("nowhere:/x")
    spoiled["services"]["dev"]["build"] = {**spoiled["services"]["dev"]["build"], "target": "none"}
    spoiled["services"]["postgres"]["environment"] |= {
        "POSTGRES_PASSWORD": "hunter2",
        "URL": "postgres://me:hunter2@db/x",
    }
    spoiled["services"]["fireflow"]["environment"] |= {"FIREFLOW_SENTRY_DSN": "https://key@host/1"}
    spoiled["services"]["jaeger"] |= {"image": "jaegertracing/jaeger:latest", "security_opt": []}
    spoiled["services"]["grafana"]["read_only"] = False
    if len(compose_faults(spoiled, dockerfile)) != 10:
        faults.append("the checks of compose.yaml do not find what is planted")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
