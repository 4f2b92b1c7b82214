"""The tables of a consumer of one's own."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Column, Engine, MetaData, Table, Text, inspect

from consumers.own_tables import create


def test_they_are_made_once_however_many_processes_start_at_once(engine: Engine) -> None:
    metadata = MetaData()
    for name in ("one", "two", "three"):
        Table(name, metadata, Column("id", Text, primary_key=True), Column("about", Text, index=True))
    with ThreadPoolExecutor(6) as threads:
        for made in [threads.submit(create, engine, metadata) for _ in range(6)]:
            made.result()
    assert {"one", "two", "three"} <= set(inspect(engine).get_table_names())
    with engine.begin() as tx:
        tx.execute(metadata.tables["one"].insert().values(id="kept"))
    create(engine, metadata)
    with engine.connect() as tx:
        assert len(tx.execute(metadata.tables["one"].select()).all()) == 1
