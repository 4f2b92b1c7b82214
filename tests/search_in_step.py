"""Whether what can be searched is what is there."""

from sqlalchemy import Engine, text


def assert_search_in_step(engine: Engine) -> None:
    """That the index of SQLite holds the words that the transcripts hold, and nothing else. PostgreSQL sees to that
    itself."""
    if engine.dialect.name == "sqlite":
        with engine.begin() as tx:
            tx.execute(text("INSERT INTO transcript_search (transcript_search, rank) VALUES ('integrity-check', 1)"))
