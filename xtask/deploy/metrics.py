"""Compares rules and dashboard with a scrape of the service, to find names that do not exist.

    python xtask/deploy/metrics.py --promtool PROMTOOL --metrics FILE

FILE is the answer of `/metrics`, as OpenMetrics, after some requests: the labels of a metric without a
sample are unknown. FILE must contain every metric and label that an expression, a legend, a variable or
an annotation names. Then promtool checks the rules and runs their tests. Every alert must have a test in
which it fires and one in which it does not. Needs PyYAML.
"""

import argparse
import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# No bytecode is written to the source folders. This must come before the import below.
sys.dont_write_bytecode = True

from promql import (  # noqa: E402
    OWN_SERIES,
    TARGET_LABELS,
    Metric,
    PromqlError,
    labels_of,
    variable_labels_of,
)

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/helm/fireflow/files/fireflow.rules.yaml"
TESTS = ROOT / "deploy/observability/fireflow.rules.test.yaml"
CONFIG = ROOT / "deploy/observability/prometheus.yml"
DASHBOARD = ROOT / "deploy/helm/fireflow/files/dashboard.json"

SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*?)\})? (\S+)(?: \S+)?(?: # .*)?")
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)",?')
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("", "_count", "_sum"),
    "info": ("_info",),
}
# Labels whose values depend on the service: a value that is not in the scrape may still be right.
OPEN_LABELS = {"database", "le", "method", "pool", "reason", "route", "status", "version"}
DATASOURCES = {"${datasource}", "-- Grafana --"}
SEVERITIES = {"critical", "warning"}

Json = dict[str, Any]


class ScrapeError(Exception):
    """The scrape is not valid OpenMetrics, or has no sample."""


class Scrape:
    """The metrics of the scrape, and those that rules record."""

    def __init__(self, text: str) -> None:
        lines = text.splitlines()
        if not lines or lines[-1] != "# EOF":
            raise ScrapeError("does not end with `# EOF`: it is not OpenMetrics, or not whole")
        families: dict[str, str] = {}
        values: dict[str, dict[str, set[str]]] = {}
        for number, line in enumerate(lines, 1):
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                families[name] = kind
            elif not line.startswith("#"):
                sample = SAMPLE.fullmatch(line)
                if sample is None or LABEL.sub("", sample[2] or ""):
                    raise ScrapeError(f"line {number} is no sample: {line}")
                found = values.setdefault(sample[1], {})
                for label, value in LABEL.findall(sample[2] or ""):
                    found.setdefault(label, set()).add(value)
        if not values:
            raise ScrapeError("has no sample")
        self.metrics: dict[str, Metric] = {
            name: Metric(
                TARGET_LABELS | set(found),
                {key: frozenset(those) for key, those in found.items() if key not in OPEN_LABELS},
            )
            for name, found in values.items()
        }
        # Families without a sample, because nothing was counted yet.
        for family, kind in families.items():
            for suffix in SUFFIXES.get(kind, ("",)):
                self.metrics.setdefault(f"{family}{suffix}", Metric(TARGET_LABELS, is_sampled=False))

    def known(self, name: str) -> Metric | None:
        """Looks a metric up."""
        own = OWN_SERIES.get(name)
        return Metric(own) if own is not None else self.metrics.get(name)


# ── the rules ────────────────────────────────────────────────────────────────────────────────────


def rule_faults(rules: Json, scrape: Scrape) -> list[str]:
    """The faults of the rules."""
    found: list[str] = []
    count = 0
    for group in rules["groups"]:
        for rule in group["rules"]:
            count += 1
            name = rule.get("alert") or rule.get("record")
            try:
                labels = labels_of(str(rule["expr"]), scrape.known)
            except PromqlError as fault:
                found.append(f"{name}: {fault}")
                continue
            if "record" in rule:
                if ":" not in name:
                    found.append(f"{name}: a recorded series has a colon in its name")
                scrape.metrics[name] = Metric(labels)
            else:
                found += [f"{name}: {fault}" for fault in _alert_faults(rule, labels)]
    return found if count else ["there is no rule"]


def _alert_faults(rule: Json, labels: frozenset[str]) -> Iterator[str]:
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"its severity is none of {', '.join(sorted(SEVERITIES))}"
    texts = rule.get("annotations", {})
    for key in ("summary", "description"):
        if not texts.get(key):
            yield f"has no {key}"
    for text in texts.values():
        for label in re.findall(r"\$labels\.(\w+)", text):
            if label not in labels | set(rule.get("labels", {})):
                yield f"tells of the label {label}, which its expression does not answer"


def test_faults(rules: Json, tests: Json) -> list[str]:
    """Alerts without a test in which they fire, or without one in which they stay silent."""
    fires, silent = set[str](), set[str]()
    for test in tests["tests"]:
        for check in test.get("alert_rule_test", []):
            (fires if check.get("exp_alerts") else silent).add(check["alertname"])
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    found = [f"{name}: no test has it firing" for name in sorted(alerts - fires)]
    found += [f"{name}: no test has it silent" for name in sorted(alerts - silent)]
    found += [f"{name}: is tested, and is no alert" for name in sorted((fires | silent) - alerts)]
    return found


# ── the dashboard ────────────────────────────────────────────────────────────────────────────────


def panels(dashboard: Json) -> Iterator[Json]:
    """All panels, including those inside rows."""
    for panel in dashboard["panels"]:
        yield from (panel, *panel.get("panels", []))


def dashboard_faults(dashboard: Json, scrape: Scrape) -> list[str]:
    """The faults of the dashboard."""
    found: list[str] = []
    seen: set[int] = set()
    for panel in panels(dashboard):
        name = panel.get("title") or f"panel {panel.get('id')}"
        if panel["id"] in seen:
            found.append(f"{name}: its id is there twice")
        seen.add(panel["id"])
        if panel["type"] not in ("row", "text"):
            found += [f"{name}: {fault}" for fault in _panel_faults(panel, scrape)]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            try:
                variable_labels_of(variable["query"]["query"], scrape.known)
            except PromqlError as fault:
                found.append(f"variable {variable['name']}: {fault}")
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            found += _expression_faults(
                f"annotation {annotation['name']}",
                annotation["expr"],
                [annotation.get(key, "") for key in ("textFormat", "titleFormat")],
                scrape,
            )
    found += _datasource_faults(dashboard)
    found += _variable_faults(dashboard)
    return found


def _panel_faults(panel: Json, scrape: Scrape) -> Iterator[str]:
    if not panel.get("description"):
        yield "has no description"
    if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
        yield "has no unit"
    targets = panel.get("targets") or []
    if not targets:
        yield "asks for nothing"
    for target in targets:
        yield from _expression_faults(
            target.get("refId", "?"), target.get("expr", ""), [target.get("legendFormat", "")], scrape
        )


def _expression_faults(name: str, expression: str, texts: list[str], scrape: Scrape) -> Iterator[str]:
    """The faults of an expression, and of `texts` that name labels of its answer as `{{label}}`."""
    try:
        labels = labels_of(expression, scrape.known)
    except PromqlError as fault:
        yield f"{name}: {fault}"
        return
    for text in texts:
        for label in re.findall(r"\{\{\s*([^}]*?)\s*\}\}", text):
            if label not in labels:
                yield f"{name}: `{text}` names the label {label}, which its expression does not answer"


def _datasource_faults(value: object) -> Iterator[str]:
    """Data sources other than the one that the variable chooses."""
    match value:
        case dict():
            source = value.get("datasource")
            is_named = isinstance(source, dict) and source.get("uid") in DATASOURCES
            if "datasource" in value and not is_named:
                yield f"the data source of `{value.get('title') or value.get('name')}` is {source}"
            for item in value.values():
                yield from _datasource_faults(item)
        case list():
            for item in value:
                yield from _datasource_faults(item)


def _variable_faults(dashboard: Json) -> Iterator[str]:
    known = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([A-Za-z]\w*)", json.dumps(dashboard)))
    for name in sorted(used - known):
        yield f"${name} is no variable"
    for name in sorted(known - used):
        yield f"the variable {name} is not used"


# ── promtool ─────────────────────────────────────────────────────────────────────────────────────


def promtool_faults(promtool: Path) -> list[str]:
    """The faults that promtool reports."""
    found = []
    for arguments in (
        ["check", "rules", str(RULES)],
        ["test", "rules", str(TESTS)],
        # Only the syntax, because the rules have another path in the container.
        ["check", "config", "--syntax-only", str(CONFIG)],
    ):
        place = f"promtool {' '.join(arguments[:2])}"
        try:
            done = subprocess.run([str(promtool), *arguments], capture_output=True, text=True, check=False)
        except OSError as error:
            return [f"{place}: {promtool}: {error.strerror}"]
        if done.returncode:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            found.append(f"{place}: {' '.join(lines)}")
    return found


# ── the checks themselves ────────────────────────────────────────────────────────────────────────

PLANTED = """\
# TYPE a counter
a_total{b="x"} 1
# TYPE h_seconds histogram
h_seconds_bucket{b="x",le="1.0"} 1
h_seconds_count{b="x"} 1
h_seconds_sum{b="x"} 1.5
# TYPE e counter
# EOF
"""
# A part of what has to be said of each; nothing: it is right.
EXPRESSIONS = {
    'sum by (b, job) (rate(a_total{b="x", job=~"$job"}[$__rate_interval]))': "",
    "histogram_quantile(0.9, sum by (le) (rate(h_seconds_bucket[5m]))) > 1": "",
    "rate(a_total[5m]) and on () sum(a_total) * 2 > -1": "",
    "rate(h_seconds_sum[5m]) / rate(h_seconds_count[5m] offset 1h)": "",
    "count(up == 0) or vector(0)  # those that are away": "",
    "rate(e_total[5m])": "",
    "rate(c_total[5m])": "c_total is not in the scrape",
    "a": "a is not in the scrape",
    'a_total{c="x"}': "has no label c",
    'a_total{b="y"}': "has no b y",
    'a_total{b=~"x|y"}': "has no b y",
    'e_total{b="x"}': "has no label b; e_total has no sample",
    "sum by (b) (rate(e_total[5m]))": "names what is not there: b; e_total has no sample",
    "sum by (c) (a_total)": "names what is not there: c",
    "sum(a_total) by (c)": "names what is not there: c",
    "sum by (b) (a_total) / sum by (job) (a_total)": "never match: one alone has b, job",
    "a_total and on (c) up": "names what one side has not: c",
    "histogram_quantile(0.9, rate(h_seconds_count[5m]))": "has no `le`",
    "limitk(2, a_total)": "the function `limitk` is not known",
    "1 + 1": "asks for no metric",
    "": "where a metric or a function should be",
    '{b="x"}': "where a metric or a function should be",
    "a_total b": "is more than an expression",
    "rate(a_total[5m)": "`]` is expected",
    "a_total ? 1": "is not PromQL",
}


def self_test(rules: Json, tests: Json, dashboard: Json, scrape: Scrape) -> list[str]:
    """Plants faults, because a check that cannot fail is useless. Returns the faults that are missed."""
    planted, missed = Scrape(PLANTED), []
    for expression, expected in EXPRESSIONS.items():
        try:
            labels_of(expression, planted.known)
            said = ""
        except PromqlError as fault:
            said = str(fault)
        if expected not in said or bool(expected) != bool(said):
            missed.append(f"self-test: of `{expression}` it says `{said}`, not `{expected}`")
    for bad in ("a_total 1\n", "a_total{b} 1\n# EOF\n", "# EOF\n"):
        try:
            Scrape(bad)
        except ScrapeError:
            continue
        missed.append(f"self-test: {bad!r} passes as a scrape")

    spoiled = copy.deepcopy(rules)
    alert = next(rule for group in spoiled["groups"] for rule in group["rules"] if "alert" in rule)
    alert["labels"] = {"severity": "page"}
    alert["annotations"] = {"summary": "{{ $labels.route }}"}
    said = "\n".join(rule_faults(spoiled, copy.deepcopy(scrape)))
    alert["alert"] = "Untested"
    said += "\n".join(test_faults(spoiled, tests))
    spoiled = copy.deepcopy(dashboard)
    panel = next(panel for panel in panels(spoiled) if panel["type"] == "timeseries")
    panel |= {"description": "", "fieldConfig": {}, "datasource": "Prometheus"}
    panel["targets"] = [{"refId": "A", "expr": "sum(up)", "legendFormat": "{{route}} $nothing"}]
    said += "\n".join(dashboard_faults(spoiled, scrape))
    for expected in (
        "its severity is none of",
        "has no description",
        "tells of the label route",
        "Untested: no test has it firing",
        "Untested: no test has it silent",
        "is tested, and is no alert",
        "has no unit",
        "names the label route",
        "is Prometheus",
        "$nothing is no variable",
    ):
        if expected not in said:
            missed.append(f"self-test: nothing said `{expected}`")
    return missed


def main() -> int:
    """Prints all faults."""
    parser = argparse.ArgumentParser(description="Checks rules and dashboard against a scrape.")
    parser.add_argument("--promtool", required=True, type=Path, help="the program")
    parser.add_argument("--metrics", required=True, type=Path, help="a scrape, as OpenMetrics")
    arguments = parser.parse_args()
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    try:
        scrape = Scrape(arguments.metrics.read_text(encoding="utf-8"))
    except (OSError, ScrapeError) as fault:
        print(f"{arguments.metrics}: {fault}", file=sys.stderr)
        return 1
    series = len(scrape.metrics)
    faults = [f"{RULES.name}: {fault}" for fault in rule_faults(rules, scrape)]
    faults += [f"{TESTS.name}: {fault}" for fault in test_faults(rules, tests)]
    faults += [f"{DASHBOARD.name}: {fault}" for fault in dashboard_faults(dashboard, scrape)]
    # Real faults would hide planted ones.
    faults += [] if faults else self_test(rules, tests, dashboard, scrape)
    faults += promtool_faults(arguments.promtool)
    for line in faults:
        print(line, file=sys.stderr)
    count = sum(len(panel.get("targets") or []) for panel in panels(dashboard))
    rule_count = sum(len(group["rules"]) for group in rules["groups"])
    state = f"{len(faults)} faults" if faults else "no fault"
    print(f"metrics: {series} series, {rule_count} rules, {count} queries: {state}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
