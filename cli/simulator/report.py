"""What a simulation tells: for people as tables, for programs as JSON."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.simulator.expectation import Expectation
from cli.simulator.plan import Plan
from cli.simulator.tally import Tally
from cli.simulator.verification import Verdict

# Rows of a table of differences; `--json` has all of them.
_MAX_ROWS = 40


class Report(msgspec.Struct):
    """`verdict` is None when nothing was verified."""

    plan: Plan
    expected: Expectation
    tally: Tally
    verdict: Verdict | None = None

    @property
    def is_good(self) -> bool:
        return not self.tally.failed and not (self.verdict and self.verdict.differences)


def print_report(report: Report, console: Console) -> None:
    _print_sent(report, console)
    _print_expected(report.expected, console)
    if report.verdict is not None:
        _print_verdict(report.verdict, console)


def json_report(report: Report) -> bytes:
    """Every call that was expected is in `sessions`; amounts are integers of micro-credits."""
    tally, expected = report.tally, report.expected
    told: dict[str, Any] = {
        "plan": msgspec.structs.asdict(report.plan.wish),
        "good": report.is_good,
        "sent": {
            "calls": tally.calls,
            "lost": tally.lost,
            "broken_bodies_refused": tally.rejected,
            "retries": tally.retries,
            "failed": tally.failed,
            "failures": tally.failures,
            "seconds": round(tally.seconds, 3),
            "latency": {webhook: tally.latency(webhook) for webhook in ("prefetch", "end-of-call")},
            "shapes": expected.shapes,
        },
        "expected": _expected_json(report),
    }
    if report.verdict is not None:
        told["differences"] = report.verdict.differences
        told["waited_seconds"] = round(report.verdict.waited_s, 3)
        told["note"] = report.verdict.note
    return msgspec.json.format(msgspec.json.encode(told))


def _expected_json(report: Report) -> dict[str, Any]:
    expected = report.expected
    totals = {
        name: getattr(expected, name)
        for name in (
            "calls unknown_costs total_micros duration_ms turns function_calls recordings recording_bytes chats"
        ).split()
    }
    callers = {
        number: {"calls": books.calls, "total_micros": books.total_micros, "duration_ms": books.duration_ms}
        for number, books in expected.callers.items()
    }
    return {**totals, "costs": _costs(expected.costs), "callers": callers, "sessions": _sessions(report)}


def _sessions(report: Report) -> dict[str, Any]:
    sessions = {}
    for call in report.plan:
        if (books := call.books) is None or call.session_id in report.tally.undelivered:
            continue
        told = msgspec.structs.asdict(books)
        told["costs"] = None if books.costs is None else _costs(books.costs)
        sessions[books.session_id] = told | {"total_micros": books.total_micros, "shape": call.shape}
    return sessions


def _costs(costs: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [{"type": type_, "provider": by, "micros": micros} for (type_, by), micros in sorted(costs.items())]


def _print_sent(report: Report, console: Console) -> None:
    tally = report.tally
    table = Table(title=f"Sent (seed {report.plan.wish.seed})", show_header=False, title_justify="left")
    table.add_row("calls", f"{tally.calls} in {tally.seconds:.1f} s")
    if tally.lost:
        table.add_row("ends lost on the way", str(tally.lost))
    table.add_row("broken bodies refused", str(tally.rejected))
    table.add_row("sent again after a refusal", str(tally.retries))
    for webhook in ("prefetch", "end-of-call"):
        if latency := tally.latency(webhook):
            figures = f"p50 {latency.p50_ms:g} ms, p99 {latency.p99_ms:g} ms, max {latency.max_ms:g} ms"
            table.add_row(f"{webhook} ({latency.answers})", figures)
    console.print(table)
    if tally.failed:
        console.print(Text(f"{tally.failed} deliveries failed:", "bold red"))
        for failure in tally.failures:
            console.print(Text(f"  {failure}"))


def _print_expected(expected: Expectation, console: Console) -> None:
    table = Table(title="What the books must say", show_header=False, title_justify="left")
    table.add_row("calls", f"{expected.calls}, of {len(expected.callers)} numbers; {expected.web_calls} of nobody")
    table.add_row("cost", f"{_credits(expected.total_micros)} credits; unknown for {expected.unknown_costs} calls")
    for (type_, provider), micros in sorted(expected.costs.items()):
        table.add_row(Text(f"  {type_} by {provider}"), f"{_credits(micros)} credits")
    chats = ", ".join(f"{count} {state}" for state, count in sorted(expected.chats.items()))
    table.add_row("transcripts", chats)
    table.add_row("turns, function calls", f"{expected.turns}, {expected.function_calls}")
    table.add_row("recordings", f"{expected.recordings} with {expected.recording_bytes:,} bytes")
    table.add_row("duration", f"{expected.duration_ms / 1000:,.3f} s")
    console.print(table)


def _print_verdict(verdict: Verdict, console: Console) -> None:
    if verdict.note:
        console.print(Text(verdict.note, "yellow"))
    if not verdict.differences:
        console.print(Text(f"The books agree, to the micro-credit, after {verdict.waited_s:.1f} s.", "bold green"))
        return
    table = Table(title="Differences", title_justify="left")
    for name in ("about", "what", "expected", "the books say"):
        table.add_column(name, overflow="fold")  # an id that is cut off can't be looked up
    for difference in verdict.differences[:_MAX_ROWS]:
        table.add_row(*(Text(text) for text in msgspec.structs.astuple(difference)))
    console.print(table)
    more = len(verdict.differences) - _MAX_ROWS
    told = f"{len(verdict.differences)} differences{f', {more} more than shown: see --json' if more > 0 else ''}."
    console.print(Text(told, "bold red"))


def _credits(micros: int) -> str:
    return f"{micros // 1_000_000:,}.{micros % 1_000_000:06d}"
