"""One release of the chart in a namespace of its own."""

import json
import secrets
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from schemas.topics import CALLS_ENDED
from tests.helm.calling import Calling, Calls
from tests.helm.outside import PARTITIONS, Outside
from tests.helm.pod import Pod
from tests.helm.waiting import PATIENCE_S, eventually
from tests.sources.cluster import Cluster

CHART = Path(__file__).parents[2] / "helm" / "ringlog"

NAME = "ringlog"
WEBHOOK_SECRET = "webhook-secret-of-the-tests"
CREDIT_MICROS = 250_000  # what the end of each call says that it cost
IDENTITY_KEY = "identity-key-of-the-tests"
WAIT_S = 240  # for what should take one minute, on a machine that does other things, too

Values = dict[str, Any]


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
            "pod": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}},
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

    def rollback(self, revision: int) -> float:
        """Seconds that it took, until everything was ready."""
        began = time.monotonic()
        self.helm("rollback", NAME, str(revision), "--wait", "--timeout", f"{WAIT_S}s")
        return time.monotonic() - began

    def test(self) -> str:
        """What `ringlog check` printed. Raises `AssertionError` with it when it found something wrong."""
        try:
            return self.helm("test", NAME, "--logs", "--timeout", f"{WAIT_S}s")
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"helm test failed: {error.stdout}{error.stderr}") from None

    def uninstall(self) -> None:
        self.helm("uninstall", NAME, "--wait", "--timeout", f"{WAIT_S}s")

    def delete(self) -> None:
        """With its volumes."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")

    @contextmanager
    def calling(self, rate: float = 20, most: int = 20_000) -> Iterator[Calling]:
        """Calls are under way inside of it, so many a second, from a pod of the namespace."""
        calling = Calling(self.kubectl, self._image, f"http://{NAME}:8080", WEBHOOK_SECRET)
        calling.begin(most / rate, rate)
        yield calling

    def call(self, number: int = 20) -> Calls:
        """So many calls, at twenty a second."""
        with self.calling(20, number) as calling:
            return calling.result()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def helm(self, *arguments: str, stdin: str | None = None) -> str:
        words = ("--namespace", self.namespace, *arguments)
        return self.cluster.tools.helm(self.helm_version, *words, stdin=stdin, timeout_s=WAIT_S + 60)

    def pods(self, component: str) -> list[Pod]:
        """Those that are not going already, by name."""
        said = self.kubectl("get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", "json")
        return [
            Pod(self.kubectl, found["metadata"]["name"], found["metadata"]["uid"])
            for found in json.loads(said)["items"]
            if "deletionTimestamp" not in found["metadata"]
        ]

    def volumes(self) -> dict[str, str]:
        """What each claim is bound to: the same volume as before, or another one?"""
        claims = json.loads(self.kubectl("get", "persistentvolumeclaims", "--output", "json"))["items"]
        return {claim["metadata"]["name"]: claim["spec"]["volumeName"] for claim in claims}

    def wait_until_ready(self, *workloads: str) -> None:
        """`statefulset/ringlog`, `deployment/ringlog-billing`."""
        for workload in workloads:
            self.kubectl("rollout", "status", workload, f"--timeout={WAIT_S}s")

    def ended(self) -> dict[str, Counter[str]]:
        """Of each session that has ended in the topic: its events, and how often each lies there."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for record in self.outside.records(self.prefix, CALLS_ENDED):
            found[str(record.header("ce_subject"))][str(record.header("ce_id"))] += 1
        return found

    def billed(self) -> dict[str, int]:
        """Micro-credits of each session."""
        query = "SELECT session_id, sum(amount_micros) FROM billing_entries GROUP BY session_id"
        return {session_id: int(amount) for session_id, amount in self.outside.rows(self.database, query)}

    def wait_until_kept(self, calls: Calls, within_s: float = PATIENCE_S) -> None:
        """Each accepted call is one event in the topic, however often it lies there, and billed once."""

        def kept() -> bool:
            ended, billed = self.ended(), self.billed()
            events = {said: len(ended.get(said, ())) for said in calls.accepted}
            wrong = {said: number for said, number in events.items() if number != 1}
            assert not wrong, f"sessions, and how many events of theirs the topic has: {wrong}"
            amounts = {said: billed.get(said) for said in calls.accepted}
            wrong = {said: amount for said, amount in amounts.items() if amount != CREDIT_MICROS}
            assert not wrong, f"sessions, and what was billed for them: {wrong}"
            return True

        eventually(kept, within_s)

    def what_is_wrong(self) -> str:
        """For a person who reads why a test failed: pods, events, and what every container said last."""
        said = [self.kubectl("get", "pods", "--output", "wide"), self._events()]
        for pod in json.loads(self.kubectl("get", "pods", "--output", "json"))["items"]:
            name = pod["metadata"]["name"]
            said.append(self._logs(name))
            restarts = [
                status["name"]
                for key in ("initContainerStatuses", "containerStatuses")
                for status in pod["status"].get(key, [])
                if status["restartCount"]
            ]
            said += [self._logs(name, "--previous", "--container", container) for container in restarts]
        return "\n".join(said)

    def _events(self) -> str:
        return "\n".join(self.kubectl("get", "events", "--sort-by=.lastTimestamp").splitlines()[-25:])

    def _logs(self, pod: str, *flags: str) -> str:
        which = flags or ("--all-containers", "--prefix")
        with suppress(subprocess.CalledProcessError):  # a container that has not started has no log
            return f"--- {pod} {' '.join(flags)}\n{self.kubectl('logs', pod, '--tail=15', *which)}"
        return f"--- {pod} {' '.join(flags)}: no log"

    def _helm(self, verb: str, values: Values | None, flags: tuple[str, ...]) -> float:
        merged = json.dumps(merge(self.values(), values or {}))
        began = time.monotonic()
        try:
            self.helm(verb, NAME, str(CHART), "--values", "-", "--timeout", f"{WAIT_S}s", *flags, stdin=merged)
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"helm {verb} failed: {error.stderr}") from None
        return time.monotonic() - began


def merge(into: Values, more: Values) -> Values:
    """As Helm merges: maps key by key, all else is replaced."""
    merged = dict(into)
    for key, value in more.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
