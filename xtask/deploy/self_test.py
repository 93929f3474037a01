"""Plants faults in good renderings. Each must be found, because a check that cannot fail is useless."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import values_doc
from manifests import Manifest

Checks = Callable[[str, list[Manifest]], list[str]]
Key = str | int
Path = tuple[Key, ...]

POD: Path = ("spec", "template", "spec")
MAIN: Path = (*POD, "containers", 0)
INIT: Path = (*POD, "initContainers", 0)
ABSENT = object()


@dataclass(frozen=True)
class Plant:
    """A fault: what it changes, and a part of the expected message."""

    expect: str
    combination: str
    kind: str
    path: Path
    value: Any
    component: str = "server"


def run(rendered: dict[str, list[Manifest]], checks: Checks) -> tuple[int, list[str]]:
    """Returns the number of planted faults, and a message for each fault that was not found."""
    missed = [
        f"self-test: {name} did not render, so that nothing could be planted"
        for name in sorted({plant.combination for plant in PLANTS})
        if not rendered.get(name)
    ]
    for plant in PLANTS:
        manifests = copy.deepcopy(rendered.get(plant.combination, []))
        if not manifests:
            continue
        place = f"self-test: {plant.combination}: {plant.kind} {'.'.join(str(key) for key in plant.path)}"
        try:
            _put(manifests, plant)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            missed.append(f"{place}: cannot be planted ({error!r})")
            continue
        if not any(plant.expect in fault for fault in checks(plant.combination, manifests)):
            missed.append(f"{place}: nothing said `{plant.expect}`")
    return len(PLANTS) + 6, missed + _documentation()


def _put(manifests: list[Manifest], plant: Plant) -> None:
    """Changes the first manifest that the fault is for."""
    key = "app.kubernetes.io/component"
    for manifest in manifests:
        if manifest["kind"] == plant.kind and manifest["metadata"]["labels"][key] == plant.component:
            _change(manifests, manifest, plant)
            return
    raise KeyError(plant.component)


def _change(manifests: list[Manifest], target: Any, plant: Plant) -> None:
    if not plant.path:
        # Removes or duplicates the whole manifest.
        manifests.remove(target)
        manifests += [target] * (0 if plant.value is ABSENT else plant.value)
        return
    *way, last = plant.path
    for key in way:
        target = target.setdefault(key, {}) if isinstance(target, dict) else target[key]
    if plant.value is ABSENT:
        del target[last]
    elif isinstance(target, list) and last == len(target):
        target.append(plant.value)
    else:
        target[last] = plant.value


def _documentation() -> list[str]:
    """Plants faults for the checks of values.yaml, its schema and the README."""
    values = "# -- One\none: 1\ntwo:\n  # -- Three\n  three: a|b\n"
    missed = []
    if '| `two.three` | `"a\\|b"` | Three |' not in values_doc.table(values):
        missed.append("self-test: the table of values is not as it should be")
    readme = f"a\n{values_doc.BEGIN}\n{values_doc.END}\nb\n"
    if values_doc.with_table(readme, values) == readme:
        missed.append("self-test: an old table in README.md passes")
    for bad in ("one: 1\n", "# no dashes\none: 1\n"):
        try:
            values_doc.rows(bad)
        except values_doc.DocumentError:
            continue
        missed.append("self-test: a value without a comment passes")
    closed = {"additionalProperties": False, "properties": {"a": {"description": "A"}}}
    for data, schema, expect in (
        ({"a": 1, "b": 1}, closed, "does not know b"),
        ({}, closed, "does not have a"),
    ):
        if not any(expect in fault for fault in values_doc.key_faults(data, schema)):
            missed.append(f"self-test: nothing said `{expect}`")
    return missed


def _pod_security() -> list[Plant]:
    """A fault for every control of the restricted standard, in the Deployment of an ordinary rendering."""
    context: Path = (*MAIN, "securityContext")
    pod: Path = (*POD, "securityContext")
    places: list[tuple[str, Path, Any]] = [
        ("hostNetwork is set", (*POD, "hostNetwork"), True),
        ("hostPID is set", (*POD, "hostPID"), True),
        ("hostIPC is set", (*POD, "hostIPC"), True),
        (
            "is of a type that is not allowed",
            (*POD, "volumes", 0),
            {"name": "data", "hostPath": {"path": "/"}},
        ),
        (
            "is of a type that is not allowed",
            (*POD, "volumes", 0),
            {"name": "data", "nfs": {"server": "a", "path": "/"}},
        ),
        ("hostPort 80 is set", (*MAIN, "ports", 0, "hostPort"), 80),
        ("is privileged", (*context, "privileged"), True),
        ("allowPrivilegeEscalation is not false", (*context, "allowPrivilegeEscalation"), ABSENT),
        ("does not drop ALL", (*context, "capabilities", "drop"), ["NET_RAW"]),
        ("adds capabilities", (*context, "capabilities", "add"), ["SYS_ADMIN"]),
        ("procMount is", (*context, "procMount"), "Unmasked"),
        ("runAsNonRoot is not true", (*context, "runAsNonRoot"), False),
        ("runAsUser is 0", (*context, "runAsUser"), 0),
        ("the pod's runAsUser is 0", (*pod, "runAsUser"), 0),
        ("has no seccomp profile", (*pod, "seccompProfile"), ABSENT),
        ("seccomp profile is `Unconfined`", (*context, "seccompProfile"), {"type": "Unconfined"}),
        ("AppArmor profile is `Unconfined`", (*context, "appArmorProfile"), {"type": "Unconfined"}),
        ("SELinux type is", (*context, "seLinuxOptions"), {"type": "spc_t"}),
        ("SELinux user or role", (*pod, "seLinuxOptions"), {"user": "root"}),
        ("sysctl kernel.msgmax", (*pod, "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
        ("windowsOptions.hostProcess", (*context, "windowsOptions"), {"hostProcess": True}),
        ("readinessProbe names a host", (*MAIN, "readinessProbe", "httpGet", "host"), "10.0.0.1"),
        (
            "AppArmor is `unconfined`",
            (
                "spec",
                "template",
                "metadata",
                "annotations",
                "container.apparmor.security.beta.kubernetes.io/fireflow",
            ),
            "unconfined",
        ),
        (
            "ephemeralContainers debug: does not drop ALL",
            (*POD, "ephemeralContainers"),
            [{"name": "debug", "image": "a"}],
        ),
    ]
    plants = [Plant(expect, "external-ha", "Deployment", path, value) for expect, path, value in places]
    privileged = "securityContext", "privileged"
    return [
        *plants,
        Plant(
            "initContainers migrate: is privileged",
            "cloudnativepg-ha",
            "Deployment",
            (*INIT, *privileged),
            True,
        ),
        Plant("is privileged", "external-ha", "Job", (*MAIN, *privileged), True, "migrate"),
        Plant("is privileged", "external-ha", "Pod", ("spec", "containers", 0, *privileged), True, "test"),
    ]


def _schemas() -> list[Plant]:
    name, gateway, cloud = "external-ha", "external-inline-gateway", "cloudnativepg-ha"
    return [
        Plant("replica", name, "Deployment", ("spec", "replica"), 2),
        Plant("is not of type", name, "Service", ("spec", "ports", 0, "port"), "http"),
        Plant("portt", name, "Service", ("spec", "ports", 0, "portt"), 1),
        Plant("has no schema", name, "Service", ("kind",), "Servize"),
        Plant("has no schema", name, "Ingress", ("apiVersion",), "networking.k8s.io/v1beta1"),
        Plant("parentRef", gateway, "HTTPRoute", ("spec", "parentRef"), []),
        Plant(
            "is not one of",
            gateway,
            "HTTPRoute",
            ("spec", "rules", 0, "matches", 0, "path", "type"),
            "Prefix",
        ),
        Plant("instancez", cloud, "Cluster", ("spec", "instancez"), 3, "database"),
        Plant(
            "is not of type",
            cloud,
            "Cluster",
            ("spec", "postgresql", "parameters", "max_connections"),
            200,
            "database",
        ),
        Plant("does not match", cloud, "ScheduledBackup", ("spec", "schedule"), "0 2 * * *", "database"),
    ]


def _house_rules() -> list[Plant]:
    name = "external-ha"
    places: list[tuple[str, Path, Any]] = [
        (
            "its root file system is not read-only",
            (*MAIN, "securityContext", "readOnlyRootFilesystem"),
            False,
        ),
        ("mounts a token of Kubernetes", (*POD, "automountServiceAccountToken"), ABSENT),
        ("gets the addresses of Services", (*POD, "enableServiceLinks"), True),
        ("has no fsGroup", (*POD, "securityContext", "fsGroup"), ABSENT),
        ("requests no CPU or no memory", (*MAIN, "resources", "requests", "cpu"), ABSENT),
        ("has no memory limit", (*MAIN, "resources", "limits"), ABSENT),
        ("has a CPU limit", (*MAIN, "resources", "limits", "cpu"), "1"),
        ("holds a secret", (*MAIN, "env"), [{"name": "FIREFLOW_JWT_SECRET", "value": "a"}]),
        ("holds a secret", (*MAIN, "env"), [{"name": "OTHER", "value": "postgres://a:b@c/d"}]),
        (
            "is taken from a Secret",
            (*MAIN, "env"),
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "fireflow-jwt", "key": "a"}}}],
        ),
        ("takes a whole Secret", (*MAIN, "envFrom", 0), {"secretRef": {"name": "fireflow-jwt"}}),
        (
            "has more than a path and a port",
            (*MAIN, "readinessProbe", "httpGet", "httpHeaders"),
            [{"name": "Authorization", "value": "Bearer a"}],
        ),
        ("has no startupProbe", (*MAIN, "startupProbe"), ABSENT),
        ("does not ask /health/ready", (*MAIN, "readinessProbe", "httpGet", "path"), "/health/"),
        ("stops before proxies know", (*MAIN, "lifecycle"), ABSENT),
        ("is killed amid requests", (*POD, "terminationGracePeriodSeconds"), 10),
        ("does not roll when its settings change", ("spec", "template", "metadata", "annotations"), {}),
        ("a rollout takes pods away", ("spec", "strategy", "rollingUpdate", "maxUnavailable"), 1),
        ("lets others than the group", (*POD, "volumes", 1, "projected", "defaultMode"), 0o444),
        ("mounts volume nowhere", (*MAIN, "volumeMounts", 2), {"name": "nowhere", "mountPath": "/a"}),
        ("names no file", (*MAIN, "volumeMounts", 1, "mountPath"), "/elsewhere"),
        ("cannot write to /data", (*MAIN, "volumeMounts", 0, "mountPath"), "/elsewhere"),
        ("63 characters at most", ("metadata", "name"), "a" * 64),
        ("metadata.labels.a is no text", ("metadata", "labels", "a"), 1_234_567),
        ("annotations.a is no text", ("spec", "template", "metadata", "annotations", "a"), True),
        ("serviceAccountName is no text", (*POD, "serviceAccountName"), 1e3),
        ("has no label app.kubernetes.io/name", ("metadata", "labels", "app.kubernetes.io/name"), ABSENT),
        ("has a value that is none", ("metadata", "labels", "app.kubernetes.io/version"), "a+b"),
        ("is there twice", (), 2),
    ]
    return [Plant(expect, name, "Deployment", path, value) for expect, path, value in places] + [
        Plant("two pods could want", "sqlite-minimal", "Deployment", ("spec", "replicas"), 2),
        Plant(
            "two pods could want",
            "sqlite-minimal",
            "Deployment",
            ("spec", "strategy", "type"),
            "RollingUpdate",
        ),
        Plant(
            "50 characters at most", "cloudnativepg-ha", "Cluster", ("metadata", "name"), "a" * 51, "database"
        ),
        Plant("holds a secret", name, "ConfigMap", ("data", "FIREFLOW_DATABASE_URL"), "postgres://c/d"),
        Plant(
            "holds a secret of the values",
            "external-inline-gateway",
            "ConfigMap",
            ("data", "NOTE"),
            "postgres://fireflow:not-a-secret@db.example.com:5432/fireflow",
        ),
        Plant("is no setting of", name, "ConfigMap", ("data", "FIREFLOW_LISEN"), "0.0.0.0:8080"),
        Plant("restartPolicy is not Never", name, "Job", (*POD, "restartPolicy"), "OnFailure", "migrate"),
        Plant(
            "a hook that nothing deletes",
            name,
            "Job",
            ("metadata", "annotations", "helm.sh/hook-delete-policy"),
            ABSENT,
            "migrate",
        ),
    ]


def _references() -> list[Plant]:
    name, gateway, cloud = "external-ha", "external-inline-gateway", "cloudnativepg-ha"
    component = "app.kubernetes.io/component"
    egress: Path = ("spec", "egress")
    return [
        Plant(
            "does not select its own pods",
            name,
            "Deployment",
            ("spec", "selector", "matchLabels", "app"),
            "a",
        ),
        Plant(
            "selects by what may change", name, "Deployment", ("spec", "selector", "matchLabels", "app"), "a"
        ),
        Plant(
            "selects pods of Deployment, Job, Pod", name, "Service", ("spec", "selector", component), ABSENT
        ),
        Plant(
            "selects pods of nothing",
            name,
            "PodDisruptionBudget",
            ("spec", "selector", "matchLabels", "app"),
            "a",
        ),
        Plant("which is not there", name, "HorizontalPodAutoscaler", ("spec", "scaleTargetRef", "name"), "a"),
        Plant("looks at nothing", name, "HorizontalPodAutoscaler", ("spec", "metrics"), []),
        Plant(
            "which no pod requests",
            name,
            "HorizontalPodAutoscaler",
            ("spec", "metrics", 0, "resource", "name"),
            "a",
        ),
        Plant("its least is more", name, "HorizontalPodAutoscaler", ("spec", "minReplicas"), 9),
        Plant("says `replicas` beside an autoscaler", name, "Deployment", ("spec", "replicas"), 2),
        Plant("nobody says how many", gateway, "Deployment", ("spec", "replicas"), ABSENT),
        Plant(
            "leads to",
            name,
            "Ingress",
            ("spec", "rules", 0, "http", "paths", 0, "backend", "service", "port", "name"),
            "a",
        ),
        Plant(
            "leads to a Service or port",
            gateway,
            "HTTPRoute",
            ("spec", "rules", 0, "backendRefs", 0, "port"),
            81,
        ),
        Plant("which no pod has", name, "Service", ("spec", "ports", 0, "targetPort"), "a"),
        Plant("no NetworkPolicy selects it", cloud, "NetworkPolicy", (), ABSENT),
        Plant("lets no name be looked up", cloud, "NetworkPolicy", (*egress, 0), ABSENT),
        Plant("does not let it reach the database", cloud, "NetworkPolicy", (*egress, 1), ABSENT),
        Plant("names a Cluster that is not there", cloud, "Cluster", ("metadata", "name"), "a", "database"),
        Plant("lets nobody in", cloud, "NetworkPolicy", ("spec", "ingress"), []),
        Plant("listens on", name, "ConfigMap", ("data", "FIREFLOW_LISTEN"), "0.0.0.0:9090"),
        Plant("which is not below /a/", name, "ConfigMap", ("data", "FIREFLOW_HTTP__BASE_PATH"), "/a"),
        Plant("which nobody makes", name, "ServiceAccount", (), ABSENT),
        Plant("which nobody makes", "sqlite-minimal", "PersistentVolumeClaim", (), ABSENT),
        Plant(
            "runs before ConfigMap",
            name,
            "ConfigMap",
            ("metadata", "annotations", "helm.sh/hook-weight"),
            "1",
            "migrate",
        ),
        Plant(
            "which goes with its hook",
            name,
            "Deployment",
            (*POD, "serviceAccountName"),
            "release-fireflow-migrate",
        ),
    ]


def _telemetry() -> list[Plant]:
    name, everything, gateway = "telemetry", "everything", "external-inline-gateway"
    metrics, public = "release-fireflow-metrics", ("spec", "ports", 1)
    backend: Path = ("spec", "rules", 0, "http", "paths", 0, "backend", "service")
    endpoint: Path = ("spec", "endpoints", 0)
    rule: Path = ("spec", "groups", 0, "rules", 0)
    ingress: Path = ("spec", "ingress")
    port = {"name": "metrics", "port": 9464, "targetPort": "metrics"}
    return [
        Plant(
            "metrics are at 0.0.0.0:9100",
            name,
            "ConfigMap",
            ("data", "FIREFLOW_METRICS_LISTEN"),
            "0.0.0.0:9100",
        ),
        Plant("metrics are at None", name, "ConfigMap", ("data", "FIREFLOW_METRICS_LISTEN"), ABSENT),
        Plant("its port for them is None", name, "Deployment", (*MAIN, "ports", 1), ABSENT),
        Plant("at another address", name, "ConfigMap", ("data", "FIREFLOW_METRICS_LISTEN"), "[::]:9464"),
        Plant("and is for others too", name, "Service", public, port),
        Plant("and is for others too", name, "Service", public, {**port, "targetPort": 9464}),
        Plant("0 Services lead to the metrics", name, "Service", (), ABSENT, "metrics"),
        Plant("is not headless", name, "Service", ("spec", "clusterIP"), ABSENT, "metrics"),
        Plant("is not headless", name, "Service", ("spec", "type"), "LoadBalancer", "metrics"),
        Plant("or twice", name, "Service", ("spec", "ipFamilyPolicy"), "PreferDualStack", "metrics"),
        Plant("leads to the metrics", "external-ha", "Ingress", (*backend, "name"), metrics),
        Plant(
            "leads to the metrics",
            gateway,
            "HTTPRoute",
            ("spec", "rules", 0, "backendRefs", 0, "name"),
            metrics,
        ),
        Plant(
            "selects 0 Services",
            name,
            "ServiceMonitor",
            ("spec", "selector", "matchLabels", "a"),
            "b",
            "metrics",
        ),
        Plant(
            "selects 2 Services",
            name,
            "ServiceMonitor",
            ("spec", "selector", "matchLabels", "app.kubernetes.io/component"),
            ABSENT,
            "metrics",
        ),
        Plant("its job is not called", name, "ServiceMonitor", ("spec", "jobLabel"), ABSENT, "metrics"),
        Plant("which is not there", name, "ServiceMonitor", (*endpoint, "port"), "http", "metrics"),
        Plant("which is not there", name, "ServiceMonitor", (*endpoint, "path"), "/", "metrics"),
        Plant("does not match", everything, "ServiceMonitor", (*endpoint, "interval"), "often", "metrics"),
        Plant("portt", name, "ServiceMonitor", (*endpoint, "portt"), "metrics", "metrics"),
        Plant("is not what the file says", name, "PrometheusRule", (*rule, "expr"), "up", "metrics"),
        Plant("is not of type", name, "PrometheusRule", (*rule, "expr"), 1, "metrics"),
        Plant("is not what the file says", name, "ConfigMap", ("data", "fireflow.json"), "{}", "metrics"),
        Plant("lets everybody at the metrics", name, "NetworkPolicy", (*ingress, 1, "from"), ABSENT),
        Plant("lets everybody at the metrics", name, "NetworkPolicy", (*ingress, 0, "ports"), ABSENT),
        Plant(
            "lets everybody at the metrics",
            name,
            "NetworkPolicy",
            (*ingress, 0, "ports", 1),
            {"port": 9464, "protocol": "TCP"},
        ),
        Plant("does not let it reach port 443", name, "NetworkPolicy", ("spec", "egress"), []),
        Plant("Job a-name", everything, "NetworkPolicy", ("spec", "egress", 2), ABSENT, "migrate"),
        Plant("holds a secret", name, "ConfigMap", ("data", "FIREFLOW_SENTRY_DSN"), "https://a@b/c"),
        Plant("holds a secret of the values", name, "ConfigMap", ("data", "A"), "x-api-key=not-a-secret-key"),
        Plant(
            "names no file", everything, "ConfigMap", ("data", "FIREFLOW_SENTRY_DSN_FILE"), "/elsewhere/dsn"
        ),
    ]


PLANTS = [*_pod_security(), *_schemas(), *_house_rules(), *_references(), *_telemetry()]
