"""Reads manifests and validates each with the schema of its kind.

Kubernetes' own kinds are validated with the schemas of a Kubernetes version, custom kinds with the
files in `schemas/`. An unknown field is a fault, and so is a kind without a schema: a manifest that was
not checked must not count as correct.
"""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate import utils

Manifest = dict[str, Any]

SCHEMAS = Path(__file__).parent / "schemas"

# Without this cache, the library would read and parse megabytes of unchanged schemas at every call.
utils.schema_contents = functools.cache(utils.schema_contents)


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys in a mapping, which YAML readers otherwise accept."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"`{key}` stands twice{node.start_mark}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# Helm and Kubernetes read `1e3` and `0o17` as numbers, but Python's reader reads them as texts.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:fireflow,octal", re.compile(r"[-+]?0o[0-7_]+"), list("-+0")
)
_Loader.add_constructor("tag:fireflow,octal", lambda loader, node: int(loader.construct_scalar(node), 0))


def read(text: str) -> list[Manifest]:
    """The manifests in the output of `helm template`."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document]  # noqa: S506


def label(manifest: Manifest) -> str:
    """The name of a manifest in messages."""
    name = manifest.get("metadata", {}).get("name", "?")
    return f"{manifest.get('kind', '?')} {name}"


def pod_template(manifest: Manifest) -> Manifest | None:
    """The pod of a workload, with `metadata` and `spec`; None for other manifests."""
    match manifest.get("kind"):
        case "Pod":
            return manifest
        case "Deployment" | "Job" | "StatefulSet" | "DaemonSet" | "ReplicaSet":
            template: Manifest = manifest["spec"]["template"]
        case "CronJob":
            template = manifest["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            return None
    return template


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Every workload with its pod."""
    for manifest in manifests:
        template = pod_template(manifest)
        if template is not None:
            yield manifest, template


def containers(spec: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Every container of a pod, with the field that contains it."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or []:
            yield field, container


def hook(manifest: Manifest) -> str:
    """The hook in which Helm creates a manifest; empty if it is part of the release."""
    return str((manifest["metadata"].get("annotations") or {}).get("helm.sh/hook", ""))


def versions(count: int) -> list[str]:
    """The newest Kubernetes versions with schemas, newest first."""
    # The library lists each version twice: for its strict schemas, and for the others.
    return list(dict.fromkeys(reversed(utils.all_versions())))[:count]


@functools.cache
def _custom(kind: str, api_version: str) -> jsonschema.Draft202012Validator | None:
    path = SCHEMAS / f"{kind.lower()}-{api_version.replace('/', '-')}.json"
    if not path.is_file():
        return None
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@functools.cache
def _fault(text: str, kubernetes: str) -> str | None:
    manifest = json.loads(text)
    kind, api_version = manifest.get("kind"), manifest.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(api_version, str):
        return "has no kind or no apiVersion"
    custom = _custom(kind, api_version)
    if custom is not None:
        error = jsonschema.exceptions.best_match(custom.iter_errors(manifest))
        return None if error is None else f"{error.json_path}: {error.message}"
    try:
        kubernetes_validate.validate(manifest, kubernetes, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return f"has no schema ({api_version}, Kubernetes {kubernetes})"
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(step) for step in error.path) or "$"
        return f"{place}: {error.message} (Kubernetes {kubernetes})"
    return None


def faults(manifests: list[Manifest], kubernetes: str) -> list[str]:
    """The breaches of the schemas."""
    found = []
    for manifest in manifests:
        # Most manifests are the same in every rendering, so each text is checked once per version.
        fault = _fault(json.dumps(manifest, sort_keys=True), kubernetes)
        if fault is not None:
            found.append(f"{label(manifest)}: {fault}")
    return found
