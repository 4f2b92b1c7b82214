"""Where the tests' Kubernetes comes from: the cluster that KUBECONFIG names, or a node of the test equipment."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sources.image import docker
from tests.sources.origin import Unavailable

# The program of the test equipment that builds, starts and stops a node: `make test-all` says where it is.
NODE = "RINGLOG_TEST_NODE"
# Of this machine, as pods reach it, for a cluster that KUBECONFIG names.
HOST = "RINGLOG_TEST_HOST_ADDRESS"

_HOST_OF_NODE = "10.223.0.1"
_BUILD_DEADLINE_S = 3600  # ten to twenty minutes on two cores; once, the cache keeps it
_UP_DEADLINE_S = 180
_DEADLINE_S = 300

HELMS = {"3": "helm3", "4": "helm"}


@dataclass(frozen=True)
class Tools:
    """What charts are looked at with. `environment` is all that a command needs."""

    environment: Mapping[str, str]

    def run(self, *command: str, stdin: str | None = None, timeout_s: float = _DEADLINE_S) -> str:
        """Its standard output. Raises `subprocess.CalledProcessError`, which says in `stderr` what was wrong."""
        done = subprocess.run(
            command,
            check=True,
            text=True,
            input=stdin,
            capture_output=True,
            env=dict(self.environment),
            timeout=timeout_s,
        )
        return done.stdout

    def helm(self, version: str, *arguments: str, stdin: str | None = None, timeout_s: float = _DEADLINE_S) -> str:
        """`version` is "3" or "4"."""
        return self.run(self.program(version), *arguments, stdin=stdin, timeout_s=timeout_s)

    def program(self, version: str) -> str:
        """The Helm of a version: on a laptop there is one, named helm. Raises `Unavailable` for another one."""
        for name in (HELMS[version], "helm"):
            if shutil.which(name, path=self.environment["PATH"]) is None:
                continue
            if self.run(name, "version", "--short").startswith(f"v{version}."):
                return name
        raise Unavailable(f"there is no Helm {version} here")

    def has(self, program: str) -> bool:
        return shutil.which(program, path=self.environment["PATH"]) is not None


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers. `host` is where pods reach this machine; `started`: it was not there before."""

    tools: Tools
    host: str
    description: str
    node: Path | None = None
    started: bool = False

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = _DEADLINE_S) -> str:
        return self.tools.run("kubectl", *arguments, stdin=stdin, timeout_s=timeout_s)

    def close(self) -> None:
        """Leaves nothing of a node that was started here."""
        if self.node is not None and self.started:
            _run(self.node, "down", _UP_DEADLINE_S)

    def load(self, image: str, folder: Path) -> None:
        """So that pods find it without a registry. Raises `Unavailable`."""
        archive = folder / "image.tar"
        docker("save", image, "--output", str(archive), timeout_s=_DEADLINE_S)
        try:
            if self.node is not None:
                self.tools.run(str(self.node), "load", str(archive))
            elif self.tools.has("kind"):
                self.tools.run("kind", "load", "image-archive", str(archive))
            else:
                raise Unavailable("an image can be loaded into the node of the test equipment, or into kind; not here")
        finally:
            archive.unlink()


def open_tools() -> Tools:
    """Those of the test equipment, built if need be, else what is on the path. Raises `Unavailable`."""
    node = _node()
    if node is not None:
        _run(node, "tools", _BUILD_DEADLINE_S)
        return Tools(_environment_of(node))
    if shutil.which("helm") is None:
        raise Unavailable(f"there is no helm on the path, and {NODE} names no test equipment that brings it")
    return Tools(dict(os.environ))


def open_cluster() -> Cluster:
    """The one that KUBECONFIG names; else a node, started afresh unless it runs. Raises `Unavailable`."""
    if os.environ.get("KUBECONFIG"):
        tools = Tools(dict(os.environ))
        where = tools.run("kubectl", "config", "current-context").strip()
        return Cluster(tools, os.environ.get(HOST) or _host_of_kind(), f"given by KUBECONFIG, {where}")
    node = _node()
    if node is None:
        raise Unavailable(f"KUBECONFIG names no cluster, and {NODE} no test equipment that starts one")
    started = subprocess.run([str(node), "status"], capture_output=True, check=False).returncode != 0
    if started:
        _run(node, "build", _BUILD_DEADLINE_S)
        _run(node, "up", _UP_DEADLINE_S)
    return Cluster(Tools(_environment_of(node)), _HOST_OF_NODE, "a node of the test equipment", node, started)


def _node() -> Path | None:
    """Raises `Unavailable` when a wrong one is named: not to run what should run is no success."""
    named = os.environ.get(NODE)
    if not named:
        return None
    if not Path(named).is_file():
        raise Unavailable(f"{NODE} is {named!r}, and there is no such program")
    return Path(named).absolute()


def _run(node: Path, verb: str, timeout_s: float) -> None:
    done = subprocess.run([str(node), verb], capture_output=True, text=True, check=False, timeout=timeout_s)
    if done.returncode:
        raise RuntimeError(f"{node} {verb} failed: {done.stderr[-500:]}")


def _environment_of(node: Path) -> Mapping[str, str]:
    """From the line `export NAME=value ...` that the program prints for a shell."""
    said = subprocess.run([str(node), "env"], capture_output=True, text=True, check=True).stdout
    words: Sequence[str] = shlex.split(said)
    found = dict(word.split("=", 1) for word in words if "=" in word)
    return {**os.environ, **found, "PATH": found["PATH"].replace("$PATH", os.environ["PATH"])}


def _host_of_kind() -> str:
    try:
        return docker("network", "inspect", "kind", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    except (OSError, subprocess.CalledProcessError):
        raise Unavailable(f"{HOST} is not set, and there is no kind: how do pods reach this machine?") from None
