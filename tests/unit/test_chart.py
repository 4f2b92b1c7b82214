"""What the chart says of ringlog is so: metrics, settings, consumers, its own table of values. Needs no Helm."""

import json
import re
from pathlib import Path

import pytest

from consumers.process import CONSUMERS
from helm import values_table
from runtime.metrics import exposition
from runtime.settings import PREFIX, Settings

CHART = Path(__file__).parents[2] / "helm" / "ringlog"
VALUES = (CHART / "values.yaml").read_text()
TEMPLATES = "".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())


def test_the_readme_has_the_values_as_they_are() -> None:
    readme = (CHART / "README.md").read_text()
    assert values_table.with_table(readme, VALUES) == readme, "run `make chart-readme`"


def test_every_value_is_described() -> None:
    described = {value.path for value in values_table.values(VALUES)}
    schema = json.loads((CHART / "values.schema.json").read_text())
    undescribed = {
        path
        for path in leaves(schema, schema)
        if path not in described and not any(path.startswith(f"{known}.") for known in described)
    }
    # What every chart may get, and an entry of the map, which is described by its defaults.
    assert undescribed == {"global", "enabled"}


def leaves(node: dict, schema: dict, path: str = "") -> set[str]:
    """The paths of what has no keys of its own that are known."""
    if reference := node.get("$ref"):
        if reference.endswith("/pod") and path != "pod":
            return {path}
        node = schema["definitions"][reference.rpartition("/")[2]]
    properties = node.get("properties")
    if not properties:
        return {path} if path != "consumers" else set()
    return {
        leaf for key, inner in properties.items() for leaf in leaves(inner, schema, f"{path}.{key}" if path else key)
    }


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    there = set(re.findall(r"^# TYPE (\w+)", exposition().decode(), re.MULTILINE))
    asked = set()
    for name in ("alerts.yaml", "dashboard.json"):
        asked |= set(re.findall(r"ringlog_\w+|process_\w+", (CHART / "files" / name).read_text()))
    on_linux = {"process_resident_memory_bytes", "process_start_time_seconds"}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= there | on_linux
    assert len(asked) > 15


def test_variables_are_settings() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    said = {word for word in re.findall(r"RINGLOG_[A-Z0-9_]+", TEMPLATES + VALUES) if not word.endswith("_")}
    assert said - known == set()
    parts = re.findall(r'"((?:KAFKA|TOPIC|ALLOW|OWN|DEFAULT|CALLER)_[A-Z_]+)"', TEMPLATES)
    assert parts
    assert {PREFIX + part for part in parts} - known == set()


def test_the_consumers_are_all_of_ours() -> None:
    block = VALUES[VALUES.index("\nconsumers:\n") : VALUES.index("\nconsumerDefaults:\n")]
    assert set(re.findall(r"^  ([a-z]+):", block, re.MULTILINE)) == CONSUMERS.keys()


def test_the_chart_is_of_this_version() -> None:
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    assert version
    assert f"\nappVersion: {version[1]}\n" in (CHART / "Chart.yaml").read_text()


@pytest.mark.parametrize("word", ["password", "secret"])
def test_no_value_is_a_place_for_a_secret(word: str) -> None:
    named = {path for path, *_ in values_table.values(VALUES) if word in path.rpartition(".")[2].lower()}
    assert {path.rpartition(".")[2] for path in named} <= {
        *("passwordKey", "clientSecretKey", "credentialsSecret", "imagePullSecrets")
    }


def test_every_secret_of_the_settings_comes_from_a_secret() -> None:
    """Nobody can write one into the values: `extraEnv` takes these by reference alone."""
    (pattern,) = json.loads((CHART / "values.schema.json").read_text())["definitions"]["env"]["patternProperties"]
    secret = {PREFIX + name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field)}
    assert len(secret) > 5
    assert {name for name in secret | {f"{PREFIX}DATABASE_URL"} if not re.search(pattern, name)} == set()
