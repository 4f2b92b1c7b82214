"""One release of the chart in a namespace of its own, and the calls that are made to it."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helm.outside import PARTITIONS, Outside
from tests.sources.cluster import Cluster

CHART = Path(__file__).parents[2] / "helm" / "ringlog"
CALLER = (Path(__file__).parent / "caller.py").read_text()

NAME = "ringlog"
WEBHOOK_SECRET = "webhook-secret-of-the-tests"
IDENTITY_KEY = "identity-key-of-the-tests"
WAIT_S = 240  # for what should take one minute, on a machine that does other things, too

Values = dict[str, Any]


@dataclass(frozen=True)
class Calls:
    """What became of calls that were made once each: sessions whose end was accepted, and what went wrong."""

    accepted: list[str]
    failed: list[str]
    slowest_s: float


class Release:
    """`helm` is "3" or "4"; `prefix` is that of its topics, `database` the name of its books."""

    def __init__(self, cluster: Cluster, outside: Outside, image: str, helm: str = "4") -> None:
        self.cluster = cluster
        self.outside = outside
        self.helm_version = helm
        self.namespace = f"ringlog-{secrets.token_hex(3)}"
        self.prefix = f"{self.namespace}."
        self.database = outside.new_database()
        self._image = image

    def values(self) -> Values:
        """The smallest that work here; a test merges its own over them."""
        repository, tag = self._image.split(":")
        return {
            "image": {"repository": repository, "tag": tag},
            "kafka": {"bootstrapServers": self.outside.kafka.plaintext, "topicPrefix": self.prefix},
            "topics": {"partitions": PARTITIONS},
            "service": {"persistence": {"size": "1Gi"}},
            # Four processes of a machine with two cores would starve each other by their requests.
            "pod": {"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}},
        }

    def prepare(self) -> None:
        """The namespace, under the standard `restricted`, and the secret that the values name."""
        self.cluster.kubectl("create", "namespace", self.namespace)
        self.cluster.kubectl("label", "namespace", self.namespace, "pod-security.kubernetes.io/enforce=restricted")
        self.secret(
            "ringlog",
            {
                "webhook-keys": f"tests:{WEBHOOK_SECRET}",
                "identity-key": IDENTITY_KEY,
                "ops-key": "ops-secret-of-the-tests",
                "database-url": self.outside.database_url(self.database),
            },
        )

    def secret(self, name: str, content: dict[str, str]) -> None:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))

    def install(self, values: Values | None = None, *flags: str) -> float:
        """Seconds that it took, until everything was ready unless `flags` say otherwise."""
        return self._helm("install", values, flags or ("--wait",))

    def upgrade(self, values: Values | None = None, *flags: str) -> float:
        return self._helm("upgrade", values, flags or ("--wait",))

    def rollback(self, revision: int) -> None:
        self.helm("rollback", NAME, str(revision), "--wait", "--timeout", f"{WAIT_S}s")

    def test(self) -> str:
        """What `ringlog check` printed. Raises `AssertionError` with it when it found something wrong."""
        try:
            return self.helm("test", NAME, "--logs", "--timeout", f"{WAIT_S}s")
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"helm test failed: {error.stdout}{error.stderr}\n{self.what_is_wrong()}") from None

    def uninstall(self) -> None:
        self.helm("uninstall", NAME, "--wait", "--timeout", f"{WAIT_S}s")

    def delete(self) -> None:
        """With its volumes."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")

    @contextmanager
    def calling(self, seconds: float, rate: float) -> Iterator["Calling"]:
        """Calls are under way inside of it, from a pod of the namespace; `result` waits for their end."""
        name = f"caller-{secrets.token_hex(3)}"
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(self._caller(name, seconds, rate)))
        calling = Calling(self, name, seconds)
        calling.wait_until_it_runs()
        yield calling

    def call(self, number: int = 20) -> Calls:
        """So many calls, at twenty a second."""
        with self.calling(number / 20, 20) as calling:
            return calling.result()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        words = ("--namespace", self.namespace, *arguments)
        return self.cluster.tools.helm(self.helm_version, *words, timeout_s=WAIT_S + 60)

    def pods(self, component: str) -> list[dict[str, Any]]:
        said = self.kubectl("get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", "json")
        found: list[dict[str, Any]] = json.loads(said)["items"]
        return found

    def what_is_wrong(self) -> str:
        """For a person who reads why a test failed."""
        pods = self.kubectl("get", "pods", "--output", "wide")
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp").splitlines()[-15:]
        return "\n".join([pods, *events])

    def _helm(self, verb: str, values: Values | None, flags: tuple[str, ...]) -> float:
        merged = merge(self.values(), values or {})
        path = CHART.parent / f".{self.namespace}.json"
        path.write_text(json.dumps(merged))
        began = time.monotonic()
        try:
            self.helm(verb, NAME, str(CHART), "--values", str(path), "--timeout", f"{WAIT_S}s", *flags)
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"helm {verb} failed: {error.stderr}\n{self.what_is_wrong()}") from None
        finally:
            path.unlink()
        return time.monotonic() - began

    def _caller(self, name: str, seconds: float, rate: float) -> dict[str, Any]:
        arguments = ["-c", CALLER, f"http://{NAME}:8080", str(seconds), str(rate)]
        confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container = {
            "name": "caller",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", *arguments],
            "env": [{"name": "SECRET", "value": WEBHOOK_SECRET}],
            "securityContext": confined,
        }
        spec = {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Calling:
    """Calls that are under way."""

    def __init__(self, release: Release, pod: str, seconds: float) -> None:
        self._release = release
        self._pod = pod
        self._seconds = seconds

    def wait_until_it_runs(self) -> None:
        running = "jsonpath={.status.containerStatuses[0].started}=true"
        ended = "jsonpath={.status.phase}=Succeeded"  # a few calls are made sooner than anybody looks
        for condition in (running, ended):
            try:
                self._release.kubectl("wait", f"pod/{self._pod}", f"--for={condition}", "--timeout=30s")
                return
            except subprocess.CalledProcessError:
                continue
        raise AssertionError(f"the calls did not begin\n{self._release.what_is_wrong()}")

    def result(self) -> Calls:
        patience = f"--timeout={int(self._seconds + WAIT_S)}s"
        self._release.kubectl("wait", f"pod/{self._pod}", "--for=jsonpath={.status.phase}=Succeeded", patience)
        said = self._release.kubectl("logs", self._pod)
        return Calls(**json.loads(said.splitlines()[-1]))


def merge(into: Values, more: Values) -> Values:
    """As Helm merges: maps key by key, all else is replaced."""
    merged = dict(into)
    for key, value in more.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
