"""`ringlog consume NAME`: one consumer, ours or your own, or the profile builder."""

from typing import Annotated

import typer

from cli.context import begin, explained, join
from consumers.process import CONSUMERS, PROFILES
from consumers.process import consume as consume_process
from runtime.process import run


def consume(
    name: Annotated[
        str,
        typer.Argument(
            help="profiles, calls, billing, transcripts, recordings; or your own: my_module:MyConsumer, or an entry"
            " point of the group ringlog.consumers."
        ),
    ],
    group: Annotated[
        str | None, typer.Option(help="The name of your own consumer: of its group, positions and dead letters.")
    ] = None,
) -> None:
    """Run one consumer until SIGTERM. Its health and metrics are on RINGLOG_OPS_PORT.

    One of your own is imported, also from the current directory. Where no Kafka is configured it joins the `ringlog up`
    of the data directory.

    Examples:

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_DATABASE_URL=postgresql://... ringlog consume billing

        ringlog consume my_package:CrmSync --group crm
    """
    with explained():
        settings = begin(name) if name in (*CONSUMERS, PROFILES) else join(group or name)
        raise typer.Exit(run(lambda stop: consume_process(settings, name, stop, group)))
