"""Writes ``jars.lock`` anew: ``python -m runtime.local_kafka.relock``, after a change of versions.

This is where jgo resolves. Each root is resolved alone: together, the dependency management of one would set
versions of the other's jars (log4j's has been seen to pull Kafka's client back to 3.9).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from jgo.maven import MavenContext

from runtime.local_kafka.jars import LOCK_FILE, ROOTS, file_sha256

_HEAD = "# The class path of the embedded Kafka: coordinate, bytes, SHA-256. Written by relock.py, not by hand.\n"


def relock() -> str:
    """The text of a fresh lock file. Downloads every jar, from the repositories that jgo knows."""
    with tempfile.TemporaryDirectory(prefix="ringlog-relock-") as repository:
        context = MavenContext(repo_cache=Path(repository))
        files: dict[str, Path] = {}
        for root in ROOTS:
            inputs, transitive = context.resolver.resolve([context.create_dependency(root)])
            needed = [*inputs, *(found for found in transitive if found.scope in ("compile", "runtime"))]
            for artifact in (dependency.artifact for dependency in needed):
                coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
                files[coordinate] = artifact.resolve()
        lines = (f"{key} {file.stat().st_size} {file_sha256(file)}\n" for key, file in sorted(files.items()))
        return _HEAD + "".join(lines)


if __name__ == "__main__":
    LOCK_FILE.write_text(relock())
