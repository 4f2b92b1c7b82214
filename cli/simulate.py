"""`ringlog simulate`: plays the provider against a running ringlog, and knows what its books must say."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.context import EXIT_FAILED, EXIT_INTERRUPTED, end_with, explained, out
from cli.running import NotRunning, Running, find
from cli.simulator.delivery import DeliveryError, Target
from cli.simulator.plan import Wish
from cli.simulator.report import Report, json_report, print_report
from cli.simulator.share import ShareError, parse_share
from cli.simulator.simulation import Doing
from cli.simulator.simulation import simulate as run_simulation
from cli.simulator.sound_server import SoundServerError
from runtime.process import EXIT_SETTINGS

_NO_TARGET = "Say where to deliver: run `ringlog up` first, or give both --url and --key."
_LOST = (
    "What is lost is not in the books before it was reconciled: deliver with --lost, --seed and --serve, run"
    " `ringlog reconcile`, and then verify with the same options, --no-deliver and --verify."
)
_NO_BOOKS = "--verify reads the books of the ringlog that runs here, and none does: run `ringlog up` first."

Calls = Annotated[int, typer.Option(min=0, help="How many calls; 0 to do nothing but serve.")]
Rate = Annotated[float, typer.Option(min=0, help="Calls a second; 0: as fast as answers come.")]
Duplicates = Annotated[str, typer.Option(help="Share of the calls with a delivery that is repeated.")]
Revisions = Annotated[str, typer.Option(help="Share of the calls with a second, corrected body.")]
Odd = Annotated[str, typer.Option(help="Share of the calls with an odd shape or order.")]
Lost = Annotated[
    str, typer.Option(help="Share of the calls whose end is lost, and half of them whole, until it is reconciled.")
]
Seed = Annotated[int | None, typer.Option(help="The same seed, the same calls. Default: another one each time.")]
Verify = Annotated[bool, typer.Option("--verify", help="Wait for the books, and compare.")]
Serve = Annotated[bool, typer.Option("--serve", help="Serve the recordings until Ctrl-C.")]
Deliver = Annotated[bool, typer.Option(help="With --no-deliver: only say, or verify, what such a run delivered.")]
Patience = Annotated[float, typer.Option(min=1, help="Seconds that --verify waits for the books.")]
DataDir = Annotated[Path, typer.Option(envvar="RINGLOG_DATA_DIR", help="Where `ringlog up` left up.json.")]
Url = Annotated[str | None, typer.Option(help="Base URL of the webhooks, in place of up.json's.")]
Key = Annotated[str | None, typer.Option(help="A webhook's secret, in place of up.json's.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def simulate(
    calls: Calls = 100,
    rate: Rate = 0,
    duplicates: Duplicates = "5%",
    revisions: Revisions = "2%",
    odd: Odd = "5%",
    lost: Lost = "0%",
    seed: Seed = None,
    verify: Verify = False,
    serve: Serve = False,
    deliver: Deliver = True,
    patience: Patience = 120,
    data_dir: DataDir = Path("ringlog-data"),
    url: Url = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Play the provider: calls with everything odd that it sends, and what the books must say of them.

    Exit code 0 when all is as it must be, 1 when a delivery failed or the books differ, 2 for a wrong option.

    Examples:

        ringlog simulate --calls 2000 --verify

        ringlog simulate --calls 500 --rate 50 --duplicates 20% --odd 50% --seed 7

        ringlog simulate --calls 2000 --seed 7 --no-deliver --verify

        ringlog simulate --calls 0 --serve

        ringlog simulate --calls 1000 --lost 5% --seed 7 --serve   # then ringlog reconcile, and verify as above
    """
    doing = Doing(rate=rate, deliver=deliver, verify=verify, serve=serve, patience_s=patience)
    try:
        shares = {"duplicates": duplicates, "revisions": revisions, "odd": odd, "lost": lost}
        wish = _wish(calls, shares, seed)
        if wish.lost and deliver and verify:
            end_with(_LOST, EXIT_SETTINGS)
        running, target = _other_side(wish, doing, data_dir, url, key)
        with explained():
            is_good = asyncio.run(run_simulation(wish, doing, running, target, _teller(json)))
    except (ShareError, NotRunning, SoundServerError, DeliveryError) as error:
        end_with(str(error), EXIT_SETTINGS)
    except KeyboardInterrupt:
        end_with("Stopped: what was delivered stays delivered.", EXIT_INTERRUPTED)
    if not is_good:
        raise typer.Exit(EXIT_FAILED)


def _wish(calls: int, shares: dict[str, str], seed: int | None) -> Wish:
    """Raises `ShareError`."""
    parsed = {name: parse_share(said) for name, said in shares.items()}
    return Wish(calls=calls, seed=secrets.randbelow(1_000_000) if seed is None else seed, **parsed)


def _teller(json: bool) -> Callable[[Report], None]:
    return lambda report: typer.echo(json_report(report)) if json else print_report(report, out)


def _other_side(
    wish: Wish, doing: Doing, data_dir: Path, url: str | None, key: str | None
) -> tuple[Running | None, Target | None]:
    """What runs here, and where to deliver; None for what is neither there nor needed. Raises `NotRunning`."""
    wanted = bool(wish.calls) or doing.verify
    needed = doing.verify or (wanted and not (url and key))
    running = _running(data_dir, needed=needed, why=_NO_BOOKS if doing.verify else _NO_TARGET)
    return running, _target(running, url, key) if wanted else None


def _running(data_dir: Path, *, needed: bool, why: str) -> Running | None:
    """What runs here; None when nothing does and nothing of it is needed. Raises `NotRunning`."""
    try:
        return find(data_dir)
    except NotRunning as error:
        if needed:
            raise NotRunning(f"{error} {why}") from None
        return None


def _target(running: Running | None, url: str | None, key: str | None) -> Target:
    if running is None:
        assert url and key  # noqa: S101 - else `_running` was told that it is needed
        return Target(url, key)
    if url:  # another one perhaps, which takes the header that is usual
        return Target(url, key or running.webhook_key)
    return Target(running.webhooks_url, key or running.webhook_key, running.webhook_header)
