"""How bills are written for people and for spreadsheets. Amounts are exact."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from cli.terminal import printable
from consumers.billing_report import Line
from consumers.ledger_audit import Audit
from consumers.statement import PlanCharge, Statement
from consumers.terms import Terms
from schemas.event import rfc3339
from schemas.money import credits_text

_NONE = {"agent": "(unknown agent)", "caller": "(unknown caller)", "plan": "(no plan)"}

# More would push everything else off the screen.
_SHOWN_DIFFERENCES = 20


def report_table(month: str, by: str, lines: Sequence[Line], totals: Sequence[Line]) -> Table:
    title = f"Calls that began in {month} (UTC), by {by}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(by, overflow="fold")  # a name may be cut in two, an amount never
    by_plans = any(line.currency is not None for line in (*lines, *totals))
    # Each amount, and of how many calls it lacks something.
    for name in ("calls", "credits", "provisional", *(("charged", "provisional") if by_plans else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(Text(printable(line.key or _NONE[by])), *_cells(line, by_plans))
    table.add_section()
    for line in totals:
        table.add_row("total", *_cells(line, by_plans), style="bold")
    return table


def _cells(line: Line, by_plans: bool) -> list[Text]:
    said = [str(line.calls), credits_text(line.cost_micros), str(line.provisional)]
    if by_plans and line.currency is None:
        said += ["", ""]
    elif by_plans:
        said += [f"{credits_text(line.amount_micros)} {printable(line.currency or '')}", str(line.plan_provisional)]
    return [Text(it) for it in said]  # never markup: a currency may be "[EUR]"


def csv_rows(by: str, lines: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """With the header. What is not there is an empty field."""
    yield by, "calls", "provisional", "cost", "amount", "currency", "plan_provisional"
    for line in lines:
        yield (
            line.key or "",
            str(line.calls),
            str(line.provisional),
            credits_text(line.cost_micros),
            credits_text(line.amount_micros) if line.currency is not None else "",
            line.currency or "",
            str(line.plan_provisional),
        )


def statement_lines(it: Statement) -> Iterator[Text]:
    cost = "cost not known yet" if it.cost_micros is None else f"{credits_text(it.cost_micros)} credits"
    yield Text.assemble((it.session_id, "bold"), f"  {it.state}, {cost}")
    began = f"began {_time(it.called_at)}" if it.started_at is not None else f"first heard of {_time(it.called_at)}"
    lasted = "of unknown duration" if it.duration_ms is None else f"{it.duration_ms / 1000:g} s"
    yield Text(f"{began}, {lasted}, agent {it.agent_id or 'unknown'}, caller {it.caller_id}", "dim")
    for step in it.steps:
        yield Text("")
        yield Text.assemble((step.event_id, "cyan"), f"  received {_time(step.received_at)}: {step.why}")
        for entry in step.entries:
            amount = credits_text(entry.amount_micros)
            yield Text(f"  {entry.kind:<10}  {amount:>14}  {entry.type} by {entry.provider}")
    yield Text("")
    if it.plan is None:
        yield Text("No plan charges this call.", "italic")
    else:
        yield from _plan_lines(it.plan)


def _plan_lines(plan: PlanCharge) -> Iterator[Text]:
    row, terms = plan.row, plan.terms
    amount = (
        "not known yet" if row["amount_micros"] is None else f"{credits_text(row['amount_micros'])} {terms.currency}"
    )
    yield Text.assemble((f"plan {terms.plan}", "bold"), f"  {row['state']}, {amount}")
    yield Text(f"valid from {terms.valid_from}, terms {row['terms']}, from event {row['event_id']}", "dim")
    if terms.per_minute_micros:
        billed = "unknown seconds" if row["billed_s"] is None else f"{row['billed_s']} s"
        yield _part(
            row["minutes_micros"], f"{billed} at {credits_text(terms.per_minute_micros)} a minute{_rule(terms)}"
        )
    if terms.per_call_micros:
        yield _part(row["per_call_micros"], "for the call")
    if terms.markup_micros is not None:
        rate = "" if terms.credit_micros == 1_000_000 else f", a credit at {credits_text(terms.credit_micros)}"
        yield _part(row["passed_on_micros"], f"the provider's cost and {credits_text(terms.markup_micros)}%{rate}")
    if plan.missing:
        yield Text(f"Not known yet: {' and '.join(plan.missing)}.", "italic")


def _part(micros: int | None, what: str) -> Text:
    return Text(f"  {'?' if micros is None else credits_text(micros):>14}  {what}")


def _rule(terms: Terms) -> str:
    said = [f"rounded up to {terms.round_up_to_s} s"]
    if terms.included_s:
        said.insert(0, f"beyond the first {terms.included_s} s")
    if terms.minimum_s:
        said.append(f"at least {terms.minimum_s} s")
    return f" ({', '.join(said)})"


def audit_lines(found: Audit) -> Iterator[str]:
    yield f"{found.events} events of {found.sessions} calls were read from the log."
    for it in found.differences[:_SHOWN_DIFFERENCES]:
        yield f"{it.session_id}: {it.what}."
    if (more := found.different - _SHOWN_DIFFERENCES) > 0:
        yield f"{more} more differ; --json says the first {len(found.differences)}."
    if found.unreadable:
        yield f"{found.unreadable} events can't be read as a bill: `ringlog dead-letters list billing` has them."
    if found.in_dead_letters:
        yield f"{found.in_dead_letters} more differ because an event of theirs lies in the dead letters."
    if found.unread:
        yield f"{found.unread} events were not compared: billing has not read them yet."
    places = f"{found.different} place{'s' * (found.different != 1)}"
    yield f"The ledger differs from the log in {places}." if found.different else "The ledger agrees with the log."


def _time(time_us: int) -> str:
    """To the second, in UTC."""
    return rfc3339(time_us)[:19].replace("T", " ") + " UTC"
