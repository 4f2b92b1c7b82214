"""A pod of a release, as one asks and kills it from inside."""

import json
from collections.abc import Callable
from dataclasses import dataclass

# A service's containers share their processes, so one is known by its last words. SIGKILL: nothing is tidied up.
_KILL = """
import os, pathlib, signal, sys
words = "\\0".join(sys.argv[1:]).encode() + b"\\0"
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if int(process.name) != os.getpid() and (process / "cmdline").read_bytes().endswith(b"\\0" + words):
        os.kill(int(process.name), signal.SIGKILL)
        sys.exit()
sys.exit(f"nothing here runs {sys.argv[1:]}")
"""

_PREFETCH = """
import os, sys, urllib.parse, urllib.request
asks = {"session_id": "q-" + sys.argv[1], "agent_id": "a", "from": sys.argv[1], "to": "+15550001111"}
secret = os.environ["RINGLOG_WEBHOOK_KEYS"].partition(":")[2]
asked = urllib.request.Request("http://127.0.0.1:8080/webhooks/prefetch?" + urllib.parse.urlencode(asks))
asked.add_header("authorization", "Bearer " + secret)
print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""

_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9091/metrics", timeout=10).read().decode())
"""


@dataclass(frozen=True)
class Pod:
    """`kubectl` is that of the namespace; another pod of the same name has another `uid`."""

    kubectl: Callable[..., str]
    name: str
    uid: str

    def kill(self, container: str, *words: str) -> None:
        """A container's process, which ends with these words: `kill("builder", "consume", "profiles")`."""
        self._python(container, _KILL, *words)

    def delete(self) -> None:
        """At once, without a grace in which it could finish something."""
        self.kubectl("delete", "pod", self.name, "--grace-period=0", "--force")

    def calls_of(self, number: str) -> int:
        """How many calls of a caller its state store knows, as a prefetch says it."""
        answer = json.loads(self._python("server", _PREFETCH, number))
        return int(answer["metadata"].get("ringlog_calls", 0))

    def folded(self) -> int:
        """Events that its builder has folded into the state store since the builder's start."""
        said = self._python("builder", _METRICS)
        values = [line.split() for line in said.splitlines() if line.startswith("ringlog_state_folded_total")]
        return int(sum(float(value) for _, value in values))

    def _python(self, container: str, code: str, *arguments: str) -> str:
        return self.kubectl("exec", self.name, "--container", container, "--", "python", "-c", code, *arguments)
