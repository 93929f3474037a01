# ruff: noqa: E402
"""Checks the Helm chart of deploy/helm/fireflow, without a cluster.

    python xtask/deploy/chart.py --helm HELM [--write-readme]

Lints and renders every combination of values, in `ci/` and next to the chart, for several Kubernetes
versions, as an installation and as an upgrade. Checks every manifest with its schema, the restricted
Pod Security Standard and our own rules. Also checks that every combination in `ci/refused/` is refused
with its sentence, and that README.md and values.schema.json agree with values.yaml. Needs PyYAML and
kubernetes-validate.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

# No bytecode is written to the source folders. This must come before the imports below.
sys.dont_write_bytecode = True

import house_rules
import manifests
import pod_security
import references
import self_test
import telemetry
import values_doc
from helm import Helm
from manifests import Manifest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/fireflow"
EXPECT = "# expect: "
# Names of releases that YAML does not read as text unless they are quoted.
ODD_NAMES = ["1234567", "on", "null", "1e3", "0x1f", "0o17", "yes", "2026-11-24"]
# How many of the newest Kubernetes versions to check, in addition to the oldest that Chart.yaml allows.
NEWEST = 3


@dataclass
class Report:
    """The number of checked items, and their faults."""

    faults: list[str] = field(default_factory=list)
    renderings: int = 0
    manifests: int = 0

    def add(self, place: str, faults: list[str]) -> None:
        """Adds faults, each only once."""
        for fault in faults:
            line = f"{place}: {fault}"
            if line not in self.faults:
                self.faults.append(line)


@dataclass(frozen=True)
class Combination:
    """A combination of values that must render."""

    name: str
    path: Path
    values: dict[str, Any]

    def foreign(self, release: str) -> set[str]:
        """Names of required objects that the chart does not create."""
        jwt, database = self.values.get("jwt", {}), self.values.get("database", {})
        account = self.values.get("serviceAccount", {})
        names = {
            jwt.get("existingSecret"),
            self.values.get("tracing", {}).get("existingSecret"),
            self.values.get("errors", {}).get("sentry", {}).get("existingSecret"),
            database.get("external", {}).get("existingSecret"),
            self.values.get("persistence", {}).get("existingClaim"),
            *(v["configMap"]["name"] for v in self.values.get("extraVolumes", []) if "configMap" in v),
        }
        if account.get("create") is False:
            names.add(account.get("name", "default"))
        if database.get("mode") == "cloudnativepg":
            # CloudNativePG creates these objects for every Cluster.
            # The name must begin with a letter, like that of every Service.
            name = f"{release}-fireflow" if release[0].isalpha() else f"fireflow-{release}"
            names |= {f"{name}-db-app", f"{name}-db-ca"}
        return names - {None}

    def settings(self) -> set[str]:
        """Settings that the chart passes on without knowing them."""
        return set(self.values.get("settings", {}))

    def secrets(self) -> list[str]:
        """Texts that may occur only in Secrets."""
        external = self.values.get("database", {}).get("external", {})
        texts = self.values.get("jwt", {}).get("secret", "").split()
        headers = self.values.get("tracing", {}).get("headers")
        dsn = self.values.get("errors", {}).get("sentry", {}).get("dsn")
        return [*texts, *filter(None, (external.get("url"), external.get("readUrl"), headers, dsn))]

    def egress_ports(self) -> set[int]:
        """Ports of the collector and of Sentry, if they are set."""
        policy, ports = self.values.get("networkPolicy", {}), set[int]()
        endpoint = self.values.get("tracing", {}).get("endpoint")
        if endpoint:
            url = urlsplit(endpoint)
            default = url.port or {"http": 80, "https": 443}[url.scheme]
            ports |= set(policy.get("tracing", {}).get("ports") or [default])
        if any(self.values.get("errors", {}).get("sentry", {}).get(key) for key in ("dsn", "existingSecret")):
            ports |= set(policy.get("errors", {}).get("ports", [443]))
        return ports

    def faults(self, rendered: list[Manifest], kubernetes: str, release: str) -> list[str]:
        """The faults of the rendered manifests."""
        found = manifests.faults(rendered, kubernetes)
        rules: list[tuple[str, Callable[[], list[str]]]] = [
            ("pod security", lambda: pod_security.faults(rendered)),
            ("house rules", lambda: house_rules.faults(rendered, self.secrets())),
            ("settings", lambda: house_rules.setting_faults(rendered, self.settings())),
            ("references", lambda: references.faults(rendered, self.foreign(release))),
            ("telemetry", lambda: telemetry.faults(rendered, self.egress_ports())),
        ]
        for name, rule in rules:
            # The rules assume the structure that the schemas and the chart define.
            try:
                found += rule()
            except (AttributeError, IndexError, KeyError, TypeError) as error:
                found.append(f"{name} do not know a manifest of this shape: {error!r}")
        return found


def combinations() -> list[Combination]:
    """The combinations in `ci/`, and the values of other deployments that install the chart."""
    return [
        Combination(
            path.name.removesuffix("-values.yaml"),
            path,
            yaml.safe_load(path.read_text(encoding="utf-8")) or {},
        )
        for folder in (CHART / "ci", ROOT / "deploy")
        for path in sorted(folder.glob("*-values.yaml"))
    ]


def kubernetes_versions() -> list[str]:
    """The versions to render for: the newest, and the oldest that the chart allows."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    floor = re.search(r">=(\d+\.\d+\.\d+)", chart["kubeVersion"])
    if floor is None:
        raise SystemExit("chart: Chart.yaml: kubeVersion has no `>=`")
    return [*manifests.versions(NEWEST), floor[1]]


def check_combination(helm: Helm, one: Combination, versions: list[str], report: Report) -> list[Manifest]:
    """Lints, renders and checks a combination. Returns the rendering for the newest version."""
    lint = helm.lint(one.path)
    if not lint.ok:
        report.add(one.name, [f"helm lint: {line}" for line in (lint.text + lint.fault).splitlines() if line])
    first: dict[str, list[Manifest]] = {}
    for version in versions:
        for is_upgrade in (False, True):
            result = helm.template(one.path, version, is_upgrade)
            if not result.ok:
                report.add(one.name, [f"does not render for {version}: {result.fault.strip()}"])
                continue
            try:
                rendered = manifests.read(result.text)
            except yaml.YAMLError as error:
                report.add(one.name, [f"does not render to YAML: {error}"])
                continue
            report.renderings += 1
            report.manifests += len(rendered)
            # An upgrade must render the same manifests as an installation.
            if rendered != first.setdefault(version, rendered):
                report.add(one.name, ["an upgrade renders other manifests than an installation"])
            report.add(one.name, one.faults(rendered, version, helm.release))
    return first.get(versions[0], [])


def check_rolls(helm: Helm, one: Combination) -> list[str]:
    """Checks that a changed setting changes the pods. Otherwise they would keep the old setting."""
    templates = []
    for level in ("info", "debug"):
        result = helm.template(one.path, extra=["--set", f"log.level={level}"])
        pods = manifests.pod_templates(manifests.read(result.text))
        templates += [template for workload, template in pods if workload["kind"] == "Deployment"]
    if len(templates) != 2:
        return [f"{one.name} does not render to one Deployment"]
    return ["pods do not roll when a setting changes"] if templates[0] == templates[1] else []


def check_odd_names(helm: Helm, wanted: list[Combination], version: str) -> list[str]:
    """Checks that every label and reference has the release's name, even an unusual one."""
    found = []
    for index, one in enumerate(wanted):
        # Each name is used with some combinations, and each combination with one name.
        name = ODD_NAMES[index % len(ODD_NAMES)]
        named = replace(helm, release=name)
        result = named.template(one.path, version)
        if not result.ok:
            found.append(f"{one.name} does not render as release `{name}`: {result.fault.strip()}")
            continue
        rendered = manifests.read(result.text)
        found += [f"{one.name} as release `{name}`: {fault}" for fault in one.faults(rendered, version, name)]
        instances = {manifest["metadata"]["labels"]["app.kubernetes.io/instance"] for manifest in rendered}
        if instances != {name}:
            found.append(f"{one.name} as release `{name}`: its instance is {instances}")
    return found


def check_refused(helm: Helm, path: Path) -> list[str]:
    """Checks that a combination in `ci/refused/` does not render, and that the message explains why."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    if not first.startswith(EXPECT):
        return [f"its first line is not `{EXPECT}…`"]
    expected = first.removeprefix(EXPECT)
    result = helm.template(path)
    if result.ok:
        return ["renders, and should be refused"]
    if expected not in result.fault:
        return [f"is refused, but not with `{expected}`: {result.fault.strip()}"]
    return []


def check_documents(report: Report, write: bool) -> None:
    """Compares README.md and values.schema.json with values.yaml."""
    readme = CHART / "README.md"
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    report.add("values", values_doc.key_faults(yaml.safe_load(values), schema))
    try:
        old = readme.read_text(encoding="utf-8")
        new = values_doc.with_table(old, values)
    except values_doc.DocumentError as fault:
        report.add("README.md", [str(fault)])
        return
    if new != old and write:
        readme.write_text(new, encoding="utf-8")
        print("README.md: written")
    elif new != old:
        report.add("README.md", ["is not what values.yaml says; run this with --write-readme"])


def check(helm: Helm, report: Report) -> str:
    """Checks the chart, and returns the counts of the closing line."""
    versions = kubernetes_versions()
    print(f"helm {helm.version()}, Kubernetes {', '.join(versions)}")
    wanted = combinations()
    refused = sorted((CHART / "ci/refused").glob("*.yaml"))
    # Helm starts slowly and waits for the disk, so Python checks one rendering during the next.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        # Each job has its own report until it is done, because jobs must not share counters.
        reports = [Report() for _ in wanted]
        jobs = [
            pool.submit(check_combination, helm, one, versions, own)
            for one, own in zip(wanted, reports, strict=True)
        ]
        refusals = [pool.submit(check_refused, helm, path) for path in refused]
        rolls = pool.submit(check_rolls, helm, wanted[0])
        odd = pool.submit(check_odd_names, helm, wanted, versions[0])
        rendered: dict[str, list[Manifest]] = {}
        for one, own, job in zip(wanted, reports, jobs, strict=True):
            rendered[one.name] = job.result()
            report.renderings += own.renderings
            report.manifests += own.manifests
            report.faults += own.faults
            state = "FAILED" if own.faults else "ok"
            kinds = len(rendered[one.name])
            print(f"{state:7} {one.name}: {own.renderings} renderings of {kinds} manifests", flush=True)
        for path, refusal in zip(refused, refusals, strict=True):
            report.add(f"refused/{path.stem}", refusal.result())
        report.add("rolls", rolls.result())
        report.add("odd names", odd.result())
    failed = sum(fault.startswith("refused/") for fault in report.faults)
    print(f"{'FAILED' if failed else 'ok':7} {len(refused)} combinations are refused, each with its sentence")
    by_name = {one.name: one for one in wanted}
    planted, missed = self_test.run(
        rendered, lambda name, found: by_name[name].faults(found, versions[0], helm.release)
    )
    report.faults += missed
    print(f"{'FAILED' if missed else 'ok':7} {planted} planted faults are found")
    return (
        f"{len(wanted)} combinations, {report.renderings} renderings, {report.manifests} manifests, "
        f"{len(refused)} refusals, {planted} planted faults"
    )


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Checks the Helm chart, without a cluster.")
    parser.add_argument("--helm", required=True, type=Path, help="the program")
    parser.add_argument("--write-readme", action="store_true", help="write the table of values")
    arguments = parser.parse_args()
    began = time.monotonic()
    report = Report()
    check_documents(report, arguments.write_readme)
    counts = check(Helm(arguments.helm, CHART), report)
    for fault in report.faults:
        print(f"FAULT   {fault}", file=sys.stderr)
    seconds = time.monotonic() - began
    state = f"{len(report.faults)} faults" if report.faults else "no fault"
    print(f"chart: {counts}: {state} ({seconds:.0f} s)")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
