"""Our own rules for pods and objects, beyond Kubernetes' schemas and the Pod Security Standard."""

import re
from collections.abc import Iterator
from typing import Any

import documented
from manifests import Manifest, containers, hook, label, pod_templates

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
URL_WITH_PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]+@")
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "managed-by")}
# The only secret that may be in an environment, because it cannot come from a file (README, decisions).
SECRET_VARIABLES = {"PGPASSWORD"}
PROBES = {
    "startupProbe": "/health/live",
    "livenessProbe": "/health/live",
    "readinessProbe": "/health/ready",
}
OPEN_ACTIONS = {"path", "port", "scheme"}


def setting_faults(manifests: list[Manifest], further: set[str]) -> list[str]:
    """Variables that the service would only warn about. `further` are those that the chart's user sets."""
    return [
        f"{label(manifest)}: {key} is no setting of docs/configuration.md"
        for manifest in manifests
        for key in _data(manifest)
        if key.startswith("FIREFLOW_") and key not in documented.settings() | further
    ]


def faults(manifests: list[Manifest], secrets: list[str]) -> list[str]:
    """The breaches of our rules. `secrets` are texts that may occur only in a Secret."""
    found = [f"{label(manifest)}: {fault}" for manifest in manifests for fault in _object(manifest)]
    for manifest, template in pod_templates(manifests):
        found += [f"{label(manifest)}: {fault}" for fault in _pod(manifest, template)]
    found += _twice(manifests)
    found += _secrets(manifests, secrets)
    return found


def _object(manifest: Manifest) -> Iterator[str]:
    metadata = manifest["metadata"]
    longest = 50 if manifest["kind"] == "Cluster" else 63
    name = metadata["name"]
    for place in _no_texts(manifest):
        yield f"{place} is no text, as it has to be: quote it"
    name = str(name)
    if len(name) > longest or not NAME.fullmatch(name):
        yield f"its name is not one of {longest} characters at most"
    if manifest["kind"] == "Service" and not name[0].isalpha():
        yield "its name does not begin with a letter, as that of a Service has to (RFC 1035)"
    labels = metadata.get("labels") or {}
    for missing in sorted(LABELS - set(labels)):
        # The pod of a test is not managed by Helm.
        if not (manifest["kind"] == "Pod" and missing.endswith("/managed-by")):
            yield f"has no label {missing}"
    for key, value in labels.items():
        if not LABEL_VALUE.fullmatch(str(value)):
            yield f"label {key} has a value that is none: {value}"
    if hook(manifest) and "helm.sh/hook-delete-policy" not in metadata["annotations"]:
        yield "is a hook that nothing deletes"


# Fields that are always texts, and fields that are maps of texts.
TEXTS = {"name", "namespace", "serviceAccountName", "claimName", "secretName", "storageClassName", "key"}
MAPS_OF_TEXTS = {"labels", "annotations", "matchLabels", "nodeSelector", "data"}


def _no_texts(value: object, place: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, item in value.items():
                below = f"{place}.{key}".lstrip(".")
                if key in TEXTS and not isinstance(item, str | dict | list):
                    yield below
                if key in MAPS_OF_TEXTS and isinstance(item, dict):
                    for name, text in item.items():
                        if not isinstance(text, str | dict) or not isinstance(name, str):
                            yield f"{below}.{name}"
                yield from _no_texts(item, below)
        case list():
            for item in value:
                yield from _no_texts(item, place)


def _twice(manifests: list[Manifest]) -> Iterator[str]:
    seen = set()
    for manifest in manifests:
        key = (manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])
        if key in seen:
            yield f"{label(manifest)}: is there twice"
        seen.add(key)


def _pod(manifest: Manifest, template: Manifest) -> Iterator[str]:
    spec = template["spec"]
    if spec.get("automountServiceAccountToken") is not False:
        yield "mounts a token of Kubernetes"
    if spec.get("enableServiceLinks") is not False:
        yield "gets the addresses of Services as variables"
    if manifest["kind"] != "Deployment" and spec.get("restartPolicy") != "Never":
        yield "restartPolicy is not Never"
    if (spec.get("securityContext") or {}).get("fsGroup") is None:
        yield "has no fsGroup, so it could not read its secrets"
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or []}
    for volume in volumes.values():
        yield from _volume(volume)
    for field, container in containers(spec):
        for fault in _container(container, volumes):
            yield f"{field} {container['name']}: {fault}"
    if manifest["kind"] == "Deployment":
        yield from _server(manifest, spec)


def _volume(volume: Manifest) -> Iterator[str]:
    for kind in ("secret", "projected"):
        source = volume.get(kind)
        if source is not None and source.get("defaultMode", 0o644) & 0o337:
            yield f"volume {volume['name']}: its mode lets others than the group read it, or write"


def _container(container: Manifest, volumes: dict[str, Manifest]) -> Iterator[str]:
    context = container.get("securityContext") or {}
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root file system is not read-only"
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    if not {"cpu", "memory"} <= set(requests):
        yield "requests no CPU or no memory"
    if "memory" not in limits:
        yield "has no memory limit"
    if "cpu" in limits:
        yield "has a CPU limit"
    for variable in container.get("env") or []:
        yield from _variable(variable)
    for source in container.get("envFrom") or []:
        if "secretRef" in source:
            yield "takes a whole Secret into its environment"
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            yield f"mounts volume {mount['name']}, which is not there"
    for name in PROBES:
        action = (container.get(name) or {}).get("httpGet") or {}
        if set(action) - OPEN_ACTIONS:
            yield f"{name} has more than a path and a port"


def _variable(variable: Manifest) -> Iterator[str]:
    name = variable["name"]
    if name in documented.secrets() or URL_WITH_PASSWORD.search(str(variable.get("value", ""))):
        yield f"variable {name} holds a secret"
    is_secret = "secretKeyRef" in (variable.get("valueFrom") or {})
    if is_secret and name not in SECRET_VARIABLES:
        yield f"variable {name} is taken from a Secret; mount it as a file"


def _server(manifest: Manifest, spec: Manifest) -> Iterator[str]:
    container = spec["containers"][0]
    ports = {port.get("name") for port in container.get("ports") or []}
    for name, path in PROBES.items():
        action = (container.get(name) or {}).get("httpGet")
        if action is None:
            yield f"has no {name}"
        elif not action["path"].endswith(path) or "//" in action["path"]:
            yield f"{name} does not ask {path}, but {action['path']}"
        elif action["port"] not in ports:
            yield f"{name} asks port {action['port']}, which the container has not"
    sleep = ((container.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}
    seconds = sleep.get("seconds", 0)
    if seconds < 1:
        yield "stops before proxies know"
    if spec.get("terminationGracePeriodSeconds", 30) < seconds + 15:
        yield "is killed amid requests"
    annotations = manifest["spec"]["template"]["metadata"].get("annotations") or {}
    if "checksum/config" not in annotations:
        yield "does not roll when its settings change"
    yield from _strategy(manifest, spec)


def _strategy(manifest: Manifest, spec: Manifest) -> Iterator[str]:
    strategy = manifest["spec"].get("strategy") or {}
    has_claim = any("persistentVolumeClaim" in volume for volume in spec["volumes"])
    rolling = strategy.get("rollingUpdate") or {}
    if has_claim and (strategy.get("type") != "Recreate" or manifest["spec"].get("replicas", 2) > 1):
        yield "two pods could want the one database file"
    is_gapless = rolling.get("maxUnavailable") == 0 and rolling.get("maxSurge")
    if strategy.get("type") != "Recreate" and not is_gapless:
        yield "a rollout takes pods away before others are there"


def _secrets(manifests: list[Manifest], secrets: list[str]) -> Iterator[str]:
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            continue
        for key, value in _data(manifest).items():
            is_sqlite = str(value).startswith("sqlite:")
            is_bare = key.endswith("READ_URL") and not URL_WITH_PASSWORD.search(str(value))
            if key in documented.secrets() and not is_sqlite and not is_bare:
                yield f"{label(manifest)}: {key} holds a secret"
        for text in _texts(manifest):
            if any(secret in text for secret in secrets):
                yield f"{label(manifest)}: holds a secret of the values"
                break


def _data(manifest: Manifest) -> dict[str, Any]:
    return (manifest.get("data") or {}) if manifest["kind"] == "ConfigMap" else {}


def _texts(value: object) -> Iterator[str]:
    match value:
        case dict():
            for key, item in value.items():
                yield str(key)
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case str():
            yield value
