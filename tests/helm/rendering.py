"""The chart as Helm renders it, without a cluster."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.sources.cluster import Tools

CHART = Path(__file__).parents[2] / "helm" / "ringlog"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
KUBERNETES = "1.36.3"  # what is rendered depends on it, so a golden file does


class Refused(Exception):
    """What Helm said."""


@dataclass(frozen=True)
class Rendering:
    tools: Tools
    helm: str = "4"

    def template(self, values: Path, *flags: str, kubernetes: str = KUBERNETES) -> str:
        """Raises `Refused`."""
        arguments = ("template", "ringlog", str(CHART), "--namespace", "voice", "--values", str(values))
        try:
            said = self.tools.helm(self.helm, *arguments, "--kube-version", kubernetes, *flags)
        except subprocess.CalledProcessError as error:
            raise Refused(error.stderr.strip()) from None
        # The two Helms differ in the empty lines between documents.
        return re.sub(r"\n+---\n", "\n---\n", said).strip() + "\n"

    def lint(self, values: Path) -> str:
        """Raises `Refused`."""
        try:
            return self.tools.helm(self.helm, "lint", str(CHART), "--strict", "--values", str(values))
        except subprocess.CalledProcessError as error:
            raise Refused(error.stdout + error.stderr) from None


def short(values: Path) -> str:
    return values.name.removesuffix("-values.yaml")
