"""Checks what no schema knows of compose.yaml, skaffold.yaml and docker/: that what they name is there.

python xtask/deploy/compose.py
"""

import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# In a file that is committed there is no value of such a name, and no URL with a password.
SECRET_NAME = re.compile(r"(?i)(password|secret|token)(?!.*_FILE$)")
SECRET_VALUE = re.compile(r"://[^/\s:]*:[^/\s@]+@")


def stages(dockerfile: str) -> set[str]:
    """The stages of a Dockerfile."""
    return set(re.findall(r"(?m)^FROM \S+ AS (\S+)$", dockerfile))


def compose_faults(compose: dict[str, Any], dockerfile: str) -> list[str]:
    """What compose.yaml names that is not there, or does not do."""
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
        if build is not None and build["target"] == "runtime":
            if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
                faults.append(f"{name}: its root can be written to, or it has capabilities")
    faults += [f"the volume {name} is not used" for name in sorted(set(volumes) - used)]
    return faults


def skaffold_faults(skaffold: dict[str, Any], dockerfile: str) -> list[str]:
    """What skaffold.yaml names that is not there."""
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
    """Runs the script that makes Compose's secrets, twice."""
    script = ROOT / "docker/make-secrets.sh"
    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for _ in range(2):
            # Only root can give files away; elsewhere the rest is tried.
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
    """Prints what is wrong."""
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    text = (ROOT / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    skaffold = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    faults = compose_faults(compose, dockerfile) + skaffold_faults(skaffold, dockerfile)
    faults += secret_faults()
    # A check that cannot fail is none: each of these has to be found.
    spoilt = yaml.safe_load(text)
    spoilt["services"]["fireflow"]["depends_on"]["nobody"] = {"condition": "service_started"}
    spoilt["services"]["fireflow"]["ports"] = ["8080:8080"]
    spoilt["services"]["fireflow"]["volumes"].append("nowhere:/x")
    spoilt["services"]["dev"]["build"] = {**spoilt["services"]["dev"]["build"], "target": "none"}
    spoilt["services"]["postgres"]["environment"] |= {
        "POSTGRES_PASSWORD": "hunter2",
        "URL": "postgres://me:hunter2@db/x",
    }
    if len(compose_faults(spoilt, dockerfile)) != 6:
        faults.append("the checks of compose.yaml do not find what is planted")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
