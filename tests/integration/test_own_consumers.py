"""A consumer of one's own under the commands that know ours: its process, its topic, its dead letters."""

import asyncio
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import typer
from sqlalchemy import select
from typer.testing import CliRunner, Result

from cli import consume, dead_letters, topics
from consumers import database, process
from consumers.tables import positions
from consumers.testing import ended
from runtime.process import EXIT_SETTINGS
from runtime.settings import Settings, SettingsError
from runtime.topics import apply
from schemas.topics import CALLS_ENDED, FOREVER_MS
from tests.edge import metric
from tests.integration.test_examples import publish
from tests.integration.test_process import free_port
from tests.logging_restored import logs_restored
from tests.tallying import opened, until

CRM = """
    from pathlib import Path

    from consumers.contract import Later
    from schemas.topics import CALLS_ENDED

    class CrmSync:
        topics = (CALLS_ENDED,)

        def deliver(self, records):
            mode = Path("mode").read_text()
            for record in records:
                if mode == "broken" and record.header("ce_subject").startswith("odd"):
                    raise KeyError("+15550100")
            if mode == "away":
                raise Later("the CRM is being updated")
            with Path("delivered").open("a") as delivered:
                delivered.writelines(record.header("ce_subject") + "\\n" for record in records)
"""


class Crm:
    """The module `my_crm` in the current directory, how it works just now, and ringlog's commands."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder
        (folder / "my_crm.py").write_text(textwrap.dedent(CRM))

    def works(self, mode: str) -> None:
        (self._folder / "mode").write_text(mode)

    @property
    def delivered(self) -> list[str]:
        file = self._folder / "delivered"
        return sorted(file.read_text().split()) if file.exists() else []

    def __call__(self, app: typer.Typer, *arguments: str, code: int = 0) -> Result:
        named = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "TOPIC_PREFIX": self.settings.topic_prefix,
            "TOPIC_PARTITIONS": str(self.settings.topic_partitions),
            "DATABASE_URL": self.settings.database,
            "DATA_DIR": str(self.settings.data_dir),
        }
        env = {"COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}}
        with logs_restored():
            result = CliRunner().invoke(app, arguments, env=env)
        assert result.exit_code == code, result.output
        return result


@pytest.fixture
def crm(settings: Settings, topics: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crm]:
    database.migrate(settings)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Crm(settings.model_copy(update={"ops_port": free_port(), "dead_letter_share": 1.0}), tmp_path)
    sys.modules.pop("my_crm", None)


def consumed(crm: Crm, events: int, look: Callable[[], Any] | None = None) -> None:
    """The process, until it is through so many events; and what it answers before it is stopped."""

    async def consume() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(process.consume(crm.settings, "my_crm:CrmSync", stop, "crm"))
        with opened(crm.settings) as engine:

            def done() -> int:
                with engine.connect() as tx:
                    return sum(tx.execute(select(positions.c.next_offset)).scalars())

            await until(lambda: done() == events)
        if look is not None:
            await look()
        stop.set()
        assert await asyncio.wait_for(running, 12) == 0

    asyncio.run(consume())


EVENTS = [ended(name) for name in ("even-1", "odd-1", "even-2", "odd-2")]


def test_its_metrics_health_and_positions_have_its_name(crm: Crm) -> None:
    crm.works("well")
    asyncio.run(publish(crm.settings, EVENTS))
    labels = {"consumer": "crm", "topic": "calls.ended"}
    expected = (metric("ringlog_consumed_total", **labels) or 0) + len(EVENTS)  # this process counted other tests too

    async def look() -> None:
        base = f"http://127.0.0.1:{crm.settings.ops_port}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}/health/ready") as answer:
                assert (answer.status, (await answer.json())["kafka"]) == (200, "reading")
            said, deadline = "", time.monotonic() + 10
            # The database knows of a commit a moment before the process does.
            while f'ringlog_consumed_total{{consumer="crm",topic="calls.ended"}} {expected}' not in said:
                assert time.monotonic() < deadline, said
                async with session.get(f"{base}/metrics") as answer:
                    said = await answer.text()

    consumed(crm, 4, look)
    assert crm.delivered == ["even-1", "even-2", "odd-1", "odd-2"]
    with opened(crm.settings) as engine, engine.connect() as tx:
        assert set(tx.execute(select(positions.c.consumer)).scalars()) == {"crm"}


def test_its_dead_letters_are_listed_by_name_and_redriven_by_its_class(crm: Crm) -> None:
    crm.works("broken")
    asyncio.run(publish(crm.settings, EVENTS))
    consumed(crm, 4)
    assert crm.delivered == ["even-1", "even-2"]
    letters = dead_letters.app
    listed = json.loads(crm(letters, "list", "crm", "--json").stdout)
    assert [(it["session_id"], it["error"]) for it in listed] == [("odd-1", "KeyError"), ("odd-2", "KeyError")]
    assert listed == json.loads(crm(letters, "list", "my_crm:CrmSync", "--group", "crm", "--json").stdout)
    assert "KeyError" in crm(letters, "show", "crm", listed[0]["event_id"]).stdout

    own = "my_crm:CrmSync", "--group", "crm"
    again = crm(letters, "redrive", *own, "--all", code=1)
    assert "failed again: KeyError (my_crm.py:14 in deliver)" in again.stderr and "15550100" not in again.output
    crm.works("away")
    assert "crm can't do it now: the CRM is being updated." in crm(letters, "redrive", *own, "--all", code=1).stderr
    crm.works("well")
    done = json.loads(crm(letters, "redrive", *own, "--session=odd-1", "--json").stdout)
    assert done == {"redriven": 1, "already": 0, "failed": [], "stopped": False}
    assert json.loads(crm(letters, "discard", "crm", "--all", "--yes", "--json").stdout) == {
        "discarded": 1,
        "already": 0,
    }
    crm(letters, "redrive", *own, listed[0]["event_id"])
    assert crm.delivered == ["even-1", "even-2", "odd-1"], "what was redriven is not delivered again"


def test_who_is_unknown_is_a_sentence(crm: Crm) -> None:
    letters = dead_letters.app
    assert "There is no 'crm': dead letters have billing" in crm(letters, "list", "crm", code=EXIT_SETTINGS).stderr
    nowhere = crm(letters, "redrive", "elsewhere:CrmSync", "--group", "crm", "--all", code=EXIT_SETTINGS)
    assert "there is no module 'elsewhere'" in nowhere.stderr
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(consume.consume)
    assert "my_crm has no 'CrmSynk'; is CrmSync meant?" in crm(app, "my_crm:CrmSynk", code=EXIT_SETTINGS).stderr
    assert "ringlog has a consumer of that name" in crm(app, "my_crm:CrmSync", "--group", "billing", code=2).stderr


def test_its_topic_can_be_made_by_one_who_may(crm: Crm) -> None:
    name = f"{crm.settings.topic_prefix}dead-letters.crm"
    assert f"{name} does not exist" in crm(topics.app, "check", "--consumer", "crm", code=1).stdout.replace("\n", " ")
    assert f"made {name}" in crm(topics.app, "apply", "--consumer", "crm").stdout
    listed = json.loads(crm(topics.app, "list", "--consumer", "crm", "--consumer", "billing", "--json").stdout)
    (found,) = [it for it in listed["topics"] if it["name"] == name]
    assert (found["owner"], found["config"]["retention.ms"]) == ("crm", str(FOREVER_MS))
    assert "can't be called 'c/m'" in crm(topics.app, "apply", "--consumer", "c/m", code=EXIT_SETTINGS).stderr


async def test_a_topic_that_it_reads_and_that_forgets_stops_it_as_it_stops_ours(crm: Crm) -> None:
    crm.works("well")
    other = crm.settings.model_copy(update={"topic_prefix": crm.settings.topic_prefix + "x."})
    await apply(other, topics=[msgspec.structs.replace(CALLS_ENDED, retention_ms=604_800_000)])
    with pytest.raises(SettingsError, match=r"calls\.ended"):
        await asyncio.wait_for(process.consume(other, "my_crm:CrmSync", asyncio.Event(), "crm"), 30)
