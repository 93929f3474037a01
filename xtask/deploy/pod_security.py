"""Checks every control of the restricted Pod Security Standard for the pods of a rendering.

In the cluster, an admission controller would refuse the pod; this check finds the fault earlier. If
both the pod and its containers can set a control, the container's value overrides the pod's.
"""

from collections.abc import Iterator

from manifests import Manifest, containers, label, pod_templates

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROFILES = {"RuntimeDefault", "Localhost"}
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def faults(manifests: list[Manifest]) -> list[str]:
    """The breaches of the standard."""
    return [
        f"{label(manifest)}: pod security: {fault}"
        for manifest, template in pod_templates(manifests)
        for fault in _pod(template)
    ]


def _pod(template: Manifest) -> Iterator[str]:
    spec = template["spec"]
    context = spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is of a type that is not allowed: {', '.join(kinds)}"
    for sysctl in context.get("sysctls") or []:
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not a safe one"
    for name, value in (template["metadata"].get("annotations") or {}).items():
        is_allowed = value in ("", "runtime/default") or str(value).startswith("localhost/")
        if name.startswith(APPARMOR_ANNOTATION) and not is_allowed:
            yield f"AppArmor is `{value}`"
    for fault in _shared(context):
        yield f"the pod's {fault}"
    if context.get("runAsUser") == 0:
        yield "the pod's runAsUser is 0"
    for field, container in containers(spec):
        for fault in _container(container, context):
            yield f"{field} {container['name']}: {fault}"


def _shared(context: Manifest) -> Iterator[str]:
    """The controls that the contexts of pods and of containers share."""
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES:
        yield f"SELinux type is `{selinux['type']}`"
    if selinux.get("user") or selinux.get("role"):
        yield "SELinux user or role is set"
    for field, name in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        profile = context.get(field)
        if profile is not None and profile.get("type") not in PROFILES:
            yield f"{name} profile is `{profile.get('type')}`"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "windowsOptions.hostProcess is set"


def _container(container: Manifest, pod: Manifest) -> Iterator[str]:
    context = container.get("securityContext") or {}
    yield from _shared(context)
    if context.get("privileged"):
        yield "is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    profile = context.get("seccompProfile") or pod.get("seccompProfile") or {}
    if profile.get("type") not in PROFILES:
        yield "has no seccomp profile"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "does not drop ALL capabilities"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"adds capabilities: {', '.join(capabilities['add'])}"
    if context.get("procMount", "Default") != "Default":
        yield f"procMount is `{context['procMount']}`"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']} is set"
    yield from _hosts(container)


def _hosts(container: Manifest) -> Iterator[str]:
    """Probes and hooks must not name a host: a host other than the pod would make the kubelet a proxy."""
    lifecycle = container.get("lifecycle") or {}
    handlers = {name: container.get(name) for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    handlers |= {name: lifecycle.get(name) for name in ("postStart", "preStop")}
    for name, handler in handlers.items():
        for action in ("httpGet", "tcpSocket"):
            if ((handler or {}).get(action) or {}).get("host"):
                yield f"{name} names a host"
