"""`ringlog up`: the whole system on this machine."""

import asyncio
import fcntl
import shlex
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.context import EXIT_FAILED, begin, complain, err, explained, out
from cli.running import FILE_NAME, Running
from cli.secrets import make_secrets
from cli.stack import KAFKA_PORT, Stack, kafka_program
from consumers.database import migrate
from runtime import topics
from runtime.local_kafka import LocalKafka, LocalKafkaError
from runtime.process import run
from runtime.settings import Settings, SettingsError
from runtime.supervisor import ProgramFailed, Supervisor
from runtime.threads import in_thread
from schemas.redaction import redact_url
from schemas.topics import PARTITIONS_LOCALLY


def up(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept. Default: RINGLOG_DATA_DIR, or ringlog-data.")
    ] = None,
) -> None:
    """Run everything here: Kafka (when none is configured), the service, the profile builder and the consumers.

    Ctrl-C stops all of it in order. The data directory keeps what has happened: the next `up` goes on from there.

    Examples:

        ringlog up

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_DATABASE_URL=postgresql://... ringlog up
    """
    with explained():
        settings = begin("up", **({"data_dir": data_dir} if data_dir else {}))
        with _alone_in(settings.data_dir):
            code = run(lambda stop: _up(settings, stop))
    raise typer.Exit(code)


@contextmanager
def _alone_in(data_dir: Path) -> Iterator[None]:
    """Two of us in one directory would fight for its store, its database and its Kafka."""
    try:
        # What callers said is in it: for its owner only, unless somebody made it otherwise.
        data_dir.mkdir(0o700, parents=True, exist_ok=True)
        lock = (data_dir / "up.lock").open("w")
    except OSError as error:
        raise SettingsError(f"RINGLOG_DATA_DIR: {data_dir} can't be used ({error.strerror}).") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"RINGLOG_DATA_DIR: another `ringlog up` runs in {data_dir}; stop it, or name another folder."
            ) from None
        yield


async def _up(settings: Settings, stop: asyncio.Event) -> int:
    try:
        secrets = make_secrets(settings.data_dir)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    (settings.data_dir / FILE_NAME).unlink(missing_ok=True)  # of one that was killed
    ready: Stack | None = None

    def remember(pids: Mapping[str, int]) -> None:
        if ready is not None:
            ready.running(pids).write(settings.data_dir)

    supervisor = Supervisor(remember, complain)

    async def start_all() -> None:
        nonlocal ready
        kafka = None if settings.kafka_bootstrap_servers else await _start_kafka(settings, supervisor)
        bootstrap = kafka.bootstrap_servers if kafka else settings.bootstrap_servers
        await _prepare(settings, bootstrap, kafka_is_ours=kafka is not None)
        stack = Stack(settings, secrets, bootstrap, kafka_is_ours=kafka is not None)
        with err.status("Starting the service and the consumers ..."):
            await supervisor.start(*stack.programs())
        ready = stack
        remember(supervisor.pids)
        _welcome(stack, kafka, settings)
        await supervisor.failure()

    try:
        await _unless(stop, start_all())
    except (ProgramFailed, LocalKafkaError) as error:
        complain(str(error))
        return EXIT_FAILED
    finally:
        ready = None  # no pid is worth remembering any more
        await supervisor.stop(lambda name: err.print(f"Stopping {name} ...", style="dim"))
        (settings.data_dir / FILE_NAME).unlink(missing_ok=True)
    err.print(f"Everything has stopped; what happened is kept in {settings.data_dir}.", highlight=False)
    return 0


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Until `stop`, whatever `work` is in the middle of. Raises what it raises."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def _start_kafka(settings: Settings, supervisor: Supervisor) -> LocalKafka:
    kafka = LocalKafka(settings.data_dir.absolute() / "kafka", port=KAFKA_PORT)
    await in_thread(kafka.prepare)
    with err.status("Starting Kafka ..."):
        await supervisor.start(kafka_program(kafka))
    err.print(kafka.describe(), style="dim", highlight=False, markup=False)
    return kafka


async def _prepare(settings: Settings, bootstrap: str, *, kafka_is_ours: bool) -> None:
    """Topics and tables. Raises `SettingsError`, `KafkaUnavailable`."""
    changes: dict[str, object] = {"kafka_bootstrap_servers": bootstrap}
    if kafka_is_ours and settings.topic_partitions is None:
        changes["topic_partitions"] = PARTITIONS_LOCALLY
    with err.status("Looking after topics and tables ..."):
        report = await topics.apply(settings.model_copy(update=changes))
        for drift in report.drifts:
            err.print(f"Topic: {drift.sentence}", style="yellow", highlight=False, markup=False)
        await in_thread(migrate, settings)


def _welcome(stack: Stack, kafka: LocalKafka | None, settings: Settings) -> None:
    running = stack.running({})
    table = Table(show_header=False, box=None, padding=(0, 2))
    rows = {
        "webhooks": running.webhooks_url,
        "operations": f"{running.ops_url}  (/health/ready, /metrics, /callers/{{number}}/facts)",
        "Kafka": f"{running.bootstrap_servers}  ({'started for you' if kafka else 'yours'})",
        "database": redact_url(running.database_url),
        "recordings": redact_url(running.recordings_url),
        "logs": str(settings.data_dir / "logs"),
        "this list": str(settings.data_dir / FILE_NAME),
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))  # no markup: `[redacted]` would vanish
    out.print("\n[bold green]ringlog is up.[/]")
    out.print(table)
    out.print("\nTry a prefetch, an end of call, and the same prefetch again:\n", highlight=False)
    for line in _examples(running):
        print(line, end="\n\n")  # noqa: T201 - to be copied: rich would wrap it
    out.print("Its recording is fetched as soon as somebody serves it: [bold]ringlog simulate --calls 0 --serve[/]")
    out.print("A thousand calls, and whether the books are right: [bold]ringlog simulate --calls 1000 --verify[/]")
    out.print("Both in another terminal. Ctrl-C here stops everything.")


def _examples(running: Running) -> tuple[str, str]:
    credential = "-H " + shlex.quote(f"{running.webhook_header}: Bearer {running.webhook_key}")
    url = f"{running.webhooks_url}/webhooks"
    body = (
        '{"session_id": "session123", "agent_id": "agent001", "ts": 1729840680.886249, "duration": 300,'
        ' "call_status": "user-ended", "voip": {"provider": "twilio", "from": "+15551234567", "to": "+15557654321"},'
        ' "chat": [{"role": "user", "content": "Hi, I would like to book a flight."}],'
        ' "cost_breakdown": [{"type": "stt", "provider": "millis", "credit": 0.0043}],'
        f' "recording": {{"recording_url": "http://{running.simulator}/sounds/session123.wav"}}}}'
    )
    return (
        f"curl {credential} '{url}/prefetch?session_id=session124&agent_id=agent001&from=%2B15551234567'",
        f"curl {credential} -H 'content-type: application/json' {url}/end-of-call -d '{body}'",
    )
