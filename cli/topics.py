"""`ringlog topics apply | check | list`"""

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Column, Table

from cli.context import EXIT_FAILED, explained, load, out, patiently, result_of
from consumers.own import check_name
from runtime import topics
from runtime.topic_admin import TopicStatus
from runtime.topics import Report
from schemas.topics import CATALOGUE, DAY_MS, FOREVER_MS, Topic, dead_letters

app = typer.Typer(no_args_is_help=True, help="The topics of the catalogue on your Kafka: make them, look at them.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Own = Annotated[
    list[str] | None,
    typer.Option("--consumer", metavar="NAME", help="With the dead letters of this consumer of your own."),
]
Fix = Annotated[bool, typer.Option("--fix", help="Repair the settings of topics that exist. Lowers nothing.")]

Wait = Annotated[bool, typer.Option("--wait", help="While Kafka is away, try again.")]


@app.command()
def apply(fix: Fix = False, wait: Wait = False, consumer: Own = None, json: Json = False) -> None:
    """Make the topics that are missing; report, and with --fix repair, those that differ from the catalogue.

    Examples:

        ringlog topics apply

        ringlog topics apply --consumer crm
    """
    with explained():
        settings, wanted = load(), _with_own(consumer)
        report = patiently(lambda: result_of(lambda: topics.apply(settings, fix=fix, topics=wanted)), wait=wait)
    if json:
        _print_json(report)
        return
    for name in report.created:
        out.print(f"made {name}", highlight=False)
    for drift in report.repaired:
        out.print(f"repaired {drift.topic}: {drift.setting} was {drift.found}, is {drift.should}", highlight=False)
    if not report.created and not report.repaired:
        out.print("nothing to do" if not report.drifts else "nothing done")
    _print_findings(report)


@app.command()
def check(consumer: Own = None, json: Json = False) -> None:
    """Report what differs from the catalogue. The exit code is 1 when anything does.

    Example:

        ringlog topics check --consumer crm
    """
    with explained():
        report = _checked(consumer)
    if json:
        _print_json(report)
    else:
        if not report.drifts:
            out.print(f"all {len(report.topics)} topics are as they should be", highlight=False)
        _print_findings(report)
    if report.drifts:
        raise typer.Exit(EXIT_FAILED)


@app.command("list")
def list_(consumer: Own = None, json: Json = False) -> None:
    """Show the topics, what is in them and how they are kept.

    Example:

        ringlog topics list --json
    """
    with explained():
        report = _checked(consumer)
    if json:
        _print_json(report)
        return
    table = Table(
        Column("topic", no_wrap=True), "what", "key", "partitions", "replicas", "kept", box=None, pad_edge=False
    )
    for status in report.topics:
        found = status.found
        table.add_row(
            status.name,
            status.topic.about,
            status.topic.key,
            str(found.partitions) if found else "missing",
            str(found.replication) if found else "-",
            _kept(status),
        )
    out.print(table)


def _checked(own: list[str] | None) -> Report:
    """Raises `SettingsError`, `KafkaUnavailable` and `TopicsForbidden`."""
    settings, wanted = load(), _with_own(own)
    return result_of(lambda: topics.check(settings, topics=wanted))


def _with_own(consumers: list[str] | None) -> list[Topic]:
    """The catalogue, and the dead letters of these. Raises `SettingsError` for what can't be a consumer's name."""
    own = []
    for name in consumers or ():
        check_name(name, "a consumer")
        own.append(dead_letters(name))
    return [*CATALOGUE, *(topic for topic in own if topic not in CATALOGUE)]


def _kept(status: TopicStatus) -> str:
    """How long, as it is on the cluster; of a missing topic as it would be."""
    config = status.found.config if status.found else status.topic.config(1)
    if config["cleanup.policy"] == "compact":
        return "the newest of a key"
    kept_ms = int(config["retention.ms"])
    return "for ever" if kept_ms == FOREVER_MS else f"{kept_ms / DAY_MS:.3g} days"


def _print_findings(report: Report) -> None:
    for drift in report.drifts:
        out.print(drift.sentence, style="red" if drift.forgets else "yellow", highlight=False, markup=False)
    for note in report.notes:
        out.print(note, style="dim", highlight=False, markup=False)


def _print_json(report: Report) -> None:
    typer.echo(
        msgspec.json.encode(
            {
                "topics": [_plain(status) for status in report.topics],
                "created": report.created,
                "repaired": report.repaired,
                "drifts": report.drifts,
                "notes": report.notes,
            }
        )
    )


def _plain(status: TopicStatus) -> dict[str, Any]:
    """The settings that the catalogue speaks of, not the forty that a topic has."""
    found = status.found
    return {
        "name": status.name,
        "about": status.topic.about,
        "key": status.topic.key,
        "owner": status.topic.owner,
        "exists": found is not None,
        "partitions": found.partitions if found else None,
        "replication": found.replication if found else None,
        "config": {setting: found.config.get(setting) for setting in status.topic.config(1)} if found else None,
    }
