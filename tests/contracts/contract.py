"""A kept version of the contracts, and whether a record keeps it."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

from tests.contracts.compatibility import read


class Contract:
    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.files = read(folder)

    @cached_property
    def _api(self) -> Any:
        return self.files["asyncapi.json"]

    def complaints(self, topic: str, sample: dict[str, Any]) -> list[str]:
        """What a record of the catalogue's topic does that its contract does not say; `sample` as `scene.sample`."""
        channel = "dead-letters" if topic.startswith("dead-letters.") else topic
        messages = self._api["channels"][channel]["messages"]
        found = [list(self._of_message(name, sample)) for name in messages]
        best = min(found, key=len)  # one of the topic's kinds of message it must be
        if sample["value"] is None:
            return best
        schema = self.files[f"{channel}.json"]
        return best + [
            f"{topic}: {_said(error)}" for error in Draft202012Validator(schema).iter_errors(sample["value"])
        ]

    def _of_message(self, name: str, sample: dict[str, Any]) -> Iterator[str]:
        message = self._api["components"]["messages"][name]
        schemas = {
            "key": message["bindings"]["kafka"]["key"],
            "headers": message["headers"],
            "value": message["payload"],
        }
        for part, schema in schemas.items():
            # Draft 7, in which AsyncAPI writes its schemas, looks at nothing beside a reference.
            whole = {"allOf": [schema], "components": self._api["components"]}
            for error in Draft7Validator(whole).iter_errors(sample[part]):
                yield f"{name}, {part}: {_said(error)}"


def _said(error: Any) -> str:
    return f"{'/'.join(map(str, error.path))}: {error.message[:200]}"
