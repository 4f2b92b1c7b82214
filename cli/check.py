"""`ringlog check`: does a call get through?"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from cli.context import EXIT_FAILED, explained, load, out, result_of
from cli.round_trip import Finding, RoundTrip
from cli.running import NotRunning, find
from cli.simulator.delivery import DeliveryError, Target
from cli.terminal import printable
from runtime.settings import Settings, SettingsError, missing


def check(
    url: Annotated[str | None, typer.Option(help="Base URL of the webhooks. Default: those of what runs here.")] = None,
    key: Annotated[
        str | None, typer.Option(help="A webhook's secret. Default: the first RINGLOG_WEBHOOK_KEYS.")
    ] = None,
    patience: Annotated[float, typer.Option(min=1, help="Seconds that the call may take to be in Kafka.")] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Send a call through both webhooks, and find it in the topics. No book knows it afterwards.

    Exit code 0 when all of it worked, 1 when something did not, 2 for a wrong option or setting.

    Examples:

        ringlog check

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_WEBHOOK_KEYS=a:$A ringlog check --url http://ringlog:8080
    """
    with explained():
        settings = load()
        settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
        trip = RoundTrip(settings, _target(settings, url, key), patience)
        findings = result_of(trip.run)
    good = all(finding.good for finding in findings)
    if json:
        typer.echo(msgspec.json.encode({"session_id": trip.session_id, "good": good, "findings": findings}))
    else:
        _print(findings)
    if not good:
        raise typer.Exit(EXIT_FAILED)


def _target(settings: Settings, url: str | None, key: str | None) -> Target:
    """Raises `SettingsError` when it is not known where to, or with which secret."""
    if url is None:
        try:
            url = find(settings.data_dir).webhooks_url
        except NotRunning as error:
            raise SettingsError(f"{error} Or say with --url where the webhooks are.") from None
    if key is None:
        if not settings.webhook_keys:
            raise missing("WEBHOOK_KEYS", "the call needs a secret; write id:secret, or give one with --key")
        key = next(iter(settings.webhook_keys.values())).get_secret_value()
    try:
        return Target(url, key, settings.webhook_header)
    except DeliveryError as error:
        raise SettingsError(str(error)) from None


def _print(findings: Sequence[Finding]) -> None:
    table = Table("", "what", "took", "found", box=None, pad_edge=False)
    for finding in findings:
        mark = "[green]good[/]" if finding.good else "[red]bad[/]"
        took = "" if finding.seconds is None else f"{finding.seconds * 1000:.0f} ms"
        table.add_row(mark, finding.what, took, Text(printable(finding.said)))
    out.print(table, highlight=False)
