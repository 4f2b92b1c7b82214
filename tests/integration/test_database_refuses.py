"""A database that answers and refuses: no event is given up for it, it is said aloud, and work goes on afterwards."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, event, text

from runtime.settings import Settings
from schemas.topics import dead_letters
from tests.tally import Counted, Tally, total
from tests.tallying import opened, prepare, publish, read, running, until


async def test_a_postgresql_that_is_full_or_not_migrated(
    settings: Settings, new_database: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    own = await prepare(settings.model_copy(update={"database_url": new_database()}))
    refusals = [
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON outbox EXECUTE FUNCTION refuse()",
            "DROP TRIGGER full_disk ON outbox",
            "No space left on device",
        ),
        ("ALTER TABLE tally RENAME TO gone", "ALTER TABLE gone RENAME TO tally", 'relation "tally" does not exist'),
    ]
    with opened(own) as engine:
        async with running(own, Tally(), engine) as runner:
            for n, (refuse, allow, says) in enumerate(refusals, 1):
                with engine.begin() as tx:
                    tx.execute(text(refuse))
                await publish(own, [Counted(1)] * 10)
                await until(lambda: says in runner.health()[1].get("database_says", ""))  # noqa: B023 - awaited here
                assert not runner.health()[0]
                with engine.begin() as tx:
                    tx.execute(text(allow))
                await until(lambda: total(engine) == 10 * n)  # noqa: B023
                await until(lambda: runner.health()[0])
    assert await read(own, dead_letters("tally")) == []
    said = "".join(capfd.readouterr())
    for _, _, says in refusals:
        assert any("error" in line and says in line for line in said.splitlines())


async def test_a_full_sqlite(settings: Settings) -> None:
    own = await prepare(settings)
    pages = 10_000_000
    with opened(own) as engine:

        @event.listens_for(engine, "begin")
        def limit(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        async with running(own, Tally(), engine) as runner:
            pages = 1  # which is raised to as many as there are
            await publish(own, [Counted(1)] * 500)
            await until(lambda: runner.health()[1].get("database_says") == "database or disk is full")
            assert total(engine) < 500
            pages = 10_000_000
            await until(lambda: total(engine) == 500)
    assert await read(own, dead_letters("tally")) == []
