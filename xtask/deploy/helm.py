"""Runs Helm."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """The result of a Helm command."""

    ok: bool
    text: str
    fault: str


@dataclass(frozen=True)
class Helm:
    """A Helm program and the chart that it renders."""

    program: Path
    chart: Path
    release: str = "release"
    namespace: str = "fireflow-ns"

    def version(self) -> str:
        """Helm's version, such as `v4.3.1`."""
        result = self._run(["version", "--short"])
        if not result.ok:
            raise SystemExit(f"chart: {self.program} does not run: {result.fault.strip()}")
        return result.text.strip()

    def lint(self, values: Path) -> Result:
        """Runs `helm lint --strict`."""
        return self._run(["lint", "--strict", "--quiet", "--values", str(values), str(self.chart)])

    def template(
        self,
        values: Path,
        kubernetes: str | None = None,
        is_upgrade: bool = False,
        extra: Sequence[str] = (),
    ) -> Result:
        """Runs `helm template`, for a first installation or for an upgrade."""
        arguments = ["template", self.release, str(self.chart), "--namespace", self.namespace]
        arguments += ["--values", str(values), *extra]
        if kubernetes is not None:
            arguments += ["--kube-version", kubernetes]
        if is_upgrade:
            arguments.append("--is-upgrade")
        return self._run(arguments)

    def _run(self, arguments: Sequence[str]) -> Result:
        try:
            done = subprocess.run(
                [str(self.program), *arguments],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except OSError as error:
            raise SystemExit(f"chart: {self.program}: {error.strerror}") from error
        return Result(done.returncode == 0, done.stdout, done.stderr)
