"""Generates README.md's table from values.yaml, and checks that values.schema.json has the same keys."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

BEGIN = "<!-- values: made of values.yaml by xtask/deploy/chart.py --write-readme -->"
END = "<!-- /values -->"
# Keys that a parent chart may pass, which are no values of this chart.
FOREIGN = {"global", "enabled"}

Row = tuple[str, str, str]


class DocumentError(Exception):
    """values.yaml or README.md does not have the required form."""


def table(values: str) -> str:
    """The table with its begin and end marks."""
    lines = [BEGIN, "| Value | Default | What it is |", "|---|---|---|"]
    for key, default, about in rows(values):
        cells = (f"`{key}`", f"`{default}`", about)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, END])


def with_table(readme: str, values: str) -> str:
    """The README with a current table."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DocumentError(f"README.md has no `{BEGIN}` … `{END}`")
    return f"{head}{table(values)}{tail}"


def rows(values: str) -> list[Row]:
    """Every value with a comment `# -- …`. A value with neither a comment nor values below it is a fault."""
    root = yaml.compose(values, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise DocumentError("values.yaml is no mapping")
    return list(_rows(root, "", values.splitlines()))


def _rows(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Row]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        about = _comment(lines, key.start_mark.line)
        if about is not None:
            yield path, _default(value), about
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _rows(value, f"{path}.", lines)
        else:
            raise DocumentError(f"values.yaml: {path} has no comment `# -- …` above it")


def _comment(lines: list[str], line: int) -> str | None:
    text: list[str] = []
    for above in reversed(lines[:line]):
        stripped = above.strip()
        if not stripped.startswith("#"):
            return None
        if stripped.startswith("# -- "):
            return " ".join([stripped.removeprefix("# -- "), *reversed(text)])
        text.append(stripped.removeprefix("#").strip())
    return None


def _default(node: yaml.Node) -> str:
    loader = yaml.SafeLoader("")
    value = loader.construct_object(node, deep=True)
    return json.dumps(value, ensure_ascii=False)


def key_faults(values: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Keys that only one of values.yaml and the schema has."""
    return list(_key_faults(values, schema, ""))


def _key_faults(values: Any, schema: dict[str, Any], prefix: str) -> Iterator[str]:
    properties = schema.get("properties")
    if properties is None:
        # Deliberately without a structure, because Kubernetes defines what a user may write there.
        return
    if schema.get("additionalProperties") is not False:
        yield f"values.schema.json: {prefix or 'the whole'} lets unknown keys pass"
    values = values if isinstance(values, dict) else {}
    foreign = FOREIGN if not prefix else set()
    for key in sorted(set(values) - set(properties)):
        yield f"values.schema.json does not know {prefix}{key}"
    for key in sorted(set(properties) - set(values) - foreign):
        # The timings of probes have Kubernetes' own defaults.
        if not prefix.startswith("probes."):
            yield f"values.yaml does not have {prefix}{key}"
    for key, value in values.items():
        inner = properties.get(key)
        if isinstance(inner, dict):
            if "description" not in inner:
                yield f"values.schema.json does not describe {prefix}{key}"
            yield from _key_faults(value, inner, f"{prefix}{key}.")
