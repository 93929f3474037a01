"""README.md's table of values, made of values.yaml; and whether values.schema.json knows the same keys."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

BEGIN = "<!-- values: made of values.yaml by xtask/deploy/chart.py --write-readme -->"
END = "<!-- /values -->"
# What a parent chart may hand down; no value of this chart.
FOREIGN = {"global", "enabled"}

Row = tuple[str, str, str]


class DocumentError(Exception):
    """values.yaml or README.md cannot be read as this asks."""


def table(values: str) -> str:
    """The table, between its marks."""
    lines = [BEGIN, "| Value | Default | What it is |", "|---|---|---|"]
    for key, default, about in rows(values):
        cells = (f"`{key}`", f"`{default}`", about)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, END])


def with_table(readme: str, values: str) -> str:
    """The README with the table as it should be."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DocumentError(f"README.md has no `{BEGIN}` … `{END}`")
    return f"{head}{table(values)}{tail}"


def rows(values: str) -> list[Row]:
    """Every value that has a comment `# -- …`; one that has none, nor values below it, is a fault."""
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
    """Keys that only one of the two knows."""
    return list(_key_faults(values, schema, ""))


def _key_faults(values: Any, schema: dict[str, Any], prefix: str) -> Iterator[str]:
    properties = schema.get("properties")
    if properties is None:
        # Free of form by intent: what a user puts there is Kubernetes' to describe.
        return
    if schema.get("additionalProperties") is not False:
        yield f"values.schema.json: {prefix or 'the whole'} lets unknown keys pass"
    values = values if isinstance(values, dict) else {}
    foreign = FOREIGN if not prefix else set()
    for key in sorted(set(values) - set(properties)):
        yield f"values.schema.json does not know {prefix}{key}"
    for key in sorted(set(properties) - set(values) - foreign):
        # Of a timing the default is Kubernetes' own.
        if not prefix.startswith("probes."):
            yield f"values.yaml does not have {prefix}{key}"
    for key, value in values.items():
        inner = properties.get(key)
        if isinstance(inner, dict):
            if "description" not in inner:
                yield f"values.schema.json does not describe {prefix}{key}"
            yield from _key_faults(value, inner, f"{prefix}{key}.")
