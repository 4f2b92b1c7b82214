"""Calls that are made to a release from inside of its cluster."""

import json
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLER = (Path(__file__).parent / "caller.py").read_text()

_BEGIN_WITHIN_S = 60
_END_WITHIN_S = 60  # what is under way has its own deadline of 15 s


@dataclass(frozen=True)
class Calls:
    """What became of calls that were made once each: sessions whose end was accepted, and what went wrong."""

    accepted: list[str]
    failed: list[str]
    slowest_s: float


class Calling:
    """Calls that are under way, from a pod. `kubectl` is that of the namespace."""

    def __init__(self, kubectl: Callable[..., str], image: str, url: str, secret: str) -> None:
        self._kubectl = kubectl
        self._image = image
        self._url = url
        self._secret = secret
        self._pod = f"caller-{secrets.token_hex(3)}"
        self._seconds = 0.0

    def begin(self, seconds: float, rate: float) -> None:
        """Returns when the first calls are made."""
        self._seconds = seconds
        self._kubectl("apply", "--filename", "-", stdin=json.dumps(self._manifest(rate)))
        running = "jsonpath={.status.containerStatuses[0].started}=true"
        ended = "jsonpath={.status.phase}=Succeeded"  # a few calls are made sooner than anybody looks
        for condition, patience_s in ((running, _BEGIN_WITHIN_S), (ended, 5)):
            try:
                self._kubectl("wait", f"pod/{self._pod}", f"--for={condition}", f"--timeout={patience_s}s")
                return
            except subprocess.CalledProcessError:
                continue
        raise AssertionError("the calls did not begin")

    def stop(self) -> Calls:
        """No further ones; those under way are waited for."""
        says = "import os, signal; os.kill(1, signal.SIGTERM)"
        self._kubectl("exec", self._pod, "--", "python", "-c", says)
        self._seconds = 0.0
        return self.result()

    def result(self) -> Calls:
        """Waits for the end."""
        patience = f"--timeout={int(self._seconds + _END_WITHIN_S)}s"
        self._kubectl("wait", f"pod/{self._pod}", "--for=jsonpath={.status.phase}=Succeeded", patience)
        said = self._kubectl("logs", self._pod)
        return Calls(**json.loads(said.splitlines()[-1]))

    def _manifest(self, rate: float) -> dict[str, Any]:
        container = {
            "name": "caller",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", CALLER, self._url, str(self._seconds), str(rate)],
            "env": [{"name": "SECRET", "value": self._secret}],
            # Without a request it would get what all others leave over: few calls, and late ones, on a busy node.
            "resources": {"requests": {"cpu": "200m"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self._pod}, "spec": spec}
