"""Checks that the objects of a rendering fit together: selectors, names, ports, the order of hooks."""

from collections.abc import Iterator

from manifests import Manifest, containers, hook, label, pod_templates

KINDS = {
    "configMap": "ConfigMap",
    "secret": "Secret",
    "claim": "PersistentVolumeClaim",
    "account": "ServiceAccount",
}


def faults(manifests: list[Manifest], foreign: set[str]) -> list[str]:
    """The objects that do not fit. `foreign` are names of objects that the chart does not create."""
    found: list[str] = []
    for check in (_selectors, _autoscaler, _backends, _policies, _settings):
        found += check(manifests)
    found += _references(manifests, foreign)
    return found


def _of(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def _selects(selector: dict[str, str], template: Manifest) -> bool:
    labels = template["metadata"].get("labels") or {}
    return bool(selector) and selector.items() <= labels.items()


def _selectors(manifests: list[Manifest]) -> Iterator[str]:
    wanted = []
    for deployment in _of(manifests, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        if not _selects(selector, deployment["spec"]["template"]):
            yield f"{label(deployment)}: does not select its own pods"
        if set(selector) - {f"app.kubernetes.io/{n}" for n in ("name", "instance", "component")}:
            yield f"{label(deployment)}: selects by what may change"
        wanted.append(("Deployment", selector, deployment))
    for service in _of(manifests, "Service"):
        wanted.append(("Deployment", service["spec"].get("selector") or {}, service))
    for budget in _of(manifests, "PodDisruptionBudget"):
        wanted.append(("Deployment", budget["spec"]["selector"]["matchLabels"], budget))
    for kind, selector, owner in wanted:
        chosen = {w["kind"] for w, template in pod_templates(manifests) if _selects(selector, template)}
        if chosen != {kind}:
            names = ", ".join(sorted(chosen)) or "nothing"
            yield f"{label(owner)}: selects pods of {names}, not of the {kind} alone"


def _autoscaler(manifests: list[Manifest]) -> Iterator[str]:
    deployments = {d["metadata"]["name"]: d for d in _of(manifests, "Deployment")}
    scaled = set()
    for scaler in _of(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        deployment = deployments.get(target["name"])
        if deployment is None or target["kind"] != "Deployment":
            yield f"{label(scaler)}: scales {target['kind']} {target['name']}, which is not there"
            continue
        scaled.add(target["name"])
        if "replicas" in deployment["spec"]:
            yield f"{label(deployment)}: says `replicas` beside an autoscaler"
        if not scaler["spec"].get("metrics"):
            yield f"{label(scaler)}: looks at nothing"
        requests = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
        for metric in scaler["spec"].get("metrics") or []:
            if metric["resource"]["name"] not in requests:
                yield f"{label(scaler)}: looks at {metric['resource']['name']}, which no pod requests"
        if scaler["spec"]["minReplicas"] > scaler["spec"]["maxReplicas"]:
            yield f"{label(scaler)}: its least is more than its most"
    for name, deployment in deployments.items():
        if name not in scaled and "replicas" not in deployment["spec"]:
            yield f"{label(deployment)}: nobody says how many"


def _backends(manifests: list[Manifest]) -> Iterator[str]:
    ports = {
        (service["metadata"]["name"], port[field])
        for service in _of(manifests, "Service")
        for port in service["spec"]["ports"]
        for field in ("name", "port")
    }
    for ingress in _of(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                port = service["port"].get("name", service["port"].get("number"))
                if (service["name"], port) not in ports:
                    yield f"{label(ingress)}: leads to {service['name']}:{port}, which is not there"
    for route in _of(manifests, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if (backend["name"], backend["port"]) not in ports:
                    yield f"{label(route)}: leads to a Service or port that is not there"
    open_ports = {
        port.get("name")
        for _, template in pod_templates(_of(manifests, "Deployment"))
        for _, container in containers(template["spec"])
        for port in container.get("ports") or []
    }
    for service in _of(manifests, "Service"):
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in open_ports:
                yield f"{label(service)}: leads to port {port['targetPort']}, which no pod has"


def _policies(manifests: list[Manifest]) -> Iterator[str]:
    """If there are network policies, every pod must have one that permits what it needs."""
    policies = _of(manifests, "NetworkPolicy")
    if not policies:
        return
    clusters = {cluster["metadata"]["name"] for cluster in _of(manifests, "Cluster")}
    for workload, template in pod_templates(manifests):
        own = [p for p in policies if _selects(p["spec"]["podSelector"]["matchLabels"], template)]
        if not own:
            yield f"{label(workload)}: no NetworkPolicy selects it"
            continue
        egress = [rule for policy in own for rule in policy["spec"].get("egress") or []]
        ports = {(p["port"], p.get("protocol", "TCP")) for rule in egress for p in rule.get("ports") or []}
        if not {(53, "UDP"), (53, "TCP")} <= ports:
            yield f"{label(workload)}: its NetworkPolicy lets no name be looked up"
        is_client = any(field["name"] == "migrate" for _, field in containers(template["spec"]))
        if (is_client or clusters) and workload["kind"] != "Pod" and (5432, "TCP") not in ports:
            yield f"{label(workload)}: its NetworkPolicy does not let it reach the database"
        for rule in egress:
            for peer in rule.get("to") or []:
                chosen = (peer.get("podSelector") or {}).get("matchLabels") or {}
                cluster = chosen.get("cnpg.io/cluster")
                if cluster is not None and cluster not in clusters:
                    yield f"{label(workload)}: its NetworkPolicy names a Cluster that is not there"
        ingress = [rule for policy in own for rule in policy["spec"].get("ingress") or []]
        if workload["kind"] == "Deployment" and not any(
            port["port"] == "http" for rule in ingress for port in rule.get("ports") or []
        ):
            yield f"{label(workload)}: its NetworkPolicy lets nobody in"


def _settings(manifests: list[Manifest]) -> Iterator[str]:
    """Compares the settings of the ConfigMap with the objects outside the pod that depend on them."""
    for deployment in _of(manifests, "Deployment"):
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        names = {source["configMapRef"]["name"] for source in container.get("envFrom") or []}
        data = [m["data"] for m in _of(manifests, "ConfigMap") if m["metadata"]["name"] in names]
        if len(data) != 1:
            yield f"{label(deployment)}: has not one ConfigMap, but {len(data)}"
            continue
        settings = data[0]
        port = container["ports"][0]["containerPort"]
        if not settings["FIREFLOW_LISTEN"].endswith(f":{port}"):
            yield f"{label(deployment)}: listens on {settings['FIREFLOW_LISTEN']}, its port is {port}"
        base = settings["FIREFLOW_HTTP__BASE_PATH"].rstrip("/")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = ((container.get(probe) or {}).get("httpGet") or {}).get("path", "")
            if not path.startswith(f"{base}/health/"):
                yield f"{label(deployment)}: {probe} asks {path}, which is not below {base}/"
        yield from _files(deployment, settings)


def _files(deployment: Manifest, settings: dict[str, str]) -> Iterator[str]:
    """Checks that every file that a setting names is in a mounted volume."""
    spec = deployment["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for field, container in containers(spec):
        mounts = {
            mount["mountPath"]: volumes.get(mount["name"]) for mount in container.get("volumeMounts") or []
        }
        if "/data" not in mounts:
            yield f"{label(deployment)}: {field} {container['name']} cannot write to /data"
        for name, value in settings.items():
            if not (name.endswith("_FILE") or name == "PGSSLROOTCERT"):
                continue
            folder, _, file = value.rpartition("/")
            sources = ((mounts.get(folder) or {}).get("projected") or {}).get("sources") or []
            if not any(_has_file(source["secret"], file) for source in sources):
                yield f"{label(deployment)}: {field} {container['name']}: {name} names no file"


def _has_file(source: Manifest, file: str) -> bool:
    items = source.get("items")
    # Without items, every key is a file. The chart mounts its own Secret this way.
    return items is None or any(item["path"] == file for item in items)


def _used(template: Manifest) -> Iterator[tuple[str, str]]:
    spec = template["spec"]
    yield "account", spec["serviceAccountName"]
    for volume in spec.get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            yield "claim", volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume:
            yield "configMap", volume["configMap"]["name"]
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield "secret", source["secret"]["name"]
    for _, container in containers(spec):
        for source in container.get("envFrom") or []:
            yield "configMap", source["configMapRef"]["name"]
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference is not None:
                yield "secret", reference["name"]


def _references(manifests: list[Manifest], foreign: set[str]) -> Iterator[str]:
    """Checks that the objects that a pod names exist when the pod is created.

    Objects of a hook must themselves be created in an earlier hook.
    """
    made = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    for workload, template in pod_templates(manifests):
        events = hook(workload)
        for use, name in _used(template):
            if name in foreign:
                continue
            target = made.get((KINDS[use], name))
            if target is None:
                yield f"{label(workload)}: names {KINDS[use]} {name}, which nobody makes"
            elif events.startswith("pre-"):
                if hook(target) != events or _weight(target) >= _weight(workload):
                    yield f"{label(workload)}: runs before {label(target)} is there"
            elif hook(target):
                yield f"{label(workload)}: names {label(target)}, which goes with its hook"


def _weight(manifest: Manifest) -> int:
    return int(manifest["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))
