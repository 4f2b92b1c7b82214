"""`ringlog transcripts show | search`"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn, TypeVar

import msgspec
import typer
from rich.text import Text
from sqlalchemy import Connection

from cli.context import EXIT_FAILED, complain, explained, load, out
from cli.database import opened
from cli.terminal import printable
from consumers.database import read_only
from consumers.search import Conversation, Found, NoWords, asked_words, find, read
from runtime.process import EXIT_SETTINGS
from schemas.chat import FunctionCall, Turn
from schemas.event import rfc3339

app = typer.Typer(no_args_is_help=True, help="Read transcripts: one whole, or the turns in which words were said.")

_STYLES = {"user": "bold cyan", "agent": "bold green", "system": "dim", "tool": "magenta", "other": "yellow"}
_MATCH = "bold black on yellow"

_EXCERPT = 400  # characters of a turn in a list of matches: some five lines

_T = TypeVar("_T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


# A session id may begin with a dash, as the provider's ids do.
@app.command(context_settings={"ignore_unknown_options": True})
def show(session: Annotated[str, typer.Argument(help="The session's id.")], json: Json = False) -> None:
    """Print the transcript of a call. Exit code 1 when there is none."""
    conversation = _from_database(lambda tx: read(tx, session))
    if conversation is None:
        _stop(
            f"There is no transcript of session {session!r}: the call has not ended, its end has not arrived,"
            " or `ringlog consume transcripts` is not running."
        )
    if json:
        typer.echo(msgspec.json.encode(conversation))
    else:
        _print(_conversation_lines(conversation))


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="Words that must all occur in one turn, in any order.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many turns, the newest calls first.")] = 20,
    json: Json = False,
) -> None:
    """Find the turns in which all the words were said. Exit code 1 when there are none."""
    asked = " ".join(words)
    try:
        found = _from_database(lambda tx: find(tx, asked, limit))
    except NoWords as error:
        _stop(f"{error}: give at least one with a letter or a digit.", EXIT_SETTINGS)
    if json:
        typer.echo(msgspec.json.encode(found))
    elif found:
        _print(_found_lines(found, asked_words(asked)))
    if not found:
        _stop(f"No turn of any transcript holds {asked!r}. Whole words are looked for, all in one turn.")


def _from_database(look_up: Callable[[Connection], _T]) -> _T:
    """Ends the command with a sentence when there is no database, or none with our tables."""
    with explained(), opened(load()) as engine, read_only(engine).connect() as tx:
        return look_up(tx)


def _stop(sentence: str, code: int = EXIT_FAILED) -> NoReturn:
    complain(sentence)
    raise typer.Exit(code)


def _print(lines: Sequence[Text]) -> None:
    for line in lines:
        line.plain = printable(line.plain)  # one for one: the styles stay where they are
        out.print(line, soft_wrap=True)


def _conversation_lines(it: Conversation) -> list[Text]:
    lines = [Text.assemble((it.session_id, "bold"), (f"  agent {it.agent_id or 'unknown'}", "dim"))]
    duration = "unknown duration" if it.duration_ms is None else f"{it.duration_ms / 1000:g} s"
    lines.append(
        Text(f"{_when(it.started_at, it.received_at)}, {duration}, {it.original_status or 'no status'}", "dim")
    )
    lines += [Text(""), *(_turn_line(turn) for turn in it.turns)]
    if it.chat_state == "none" or (it.chat_state == "ok" and not it.turns):
        lines.append(Text("Nothing was said." if it.chat_state == "ok" else "No chat was sent.", "italic"))
    elif it.chat_state == "unreadable":
        lines += [Text("The chat could not be read. As it came:", "italic"), Text(it.original_chat or "")]
    if it.function_calls:
        lines += [Text(""), *(_call_line(call) for call in it.function_calls)]
    elif it.function_calls_state == "unreadable":
        lines += [Text(""), Text("The function calls could not be read; the event has them as they came.", "italic")]
    return lines


def _turn_line(turn: Turn) -> Text:
    name = turn.original_role or turn.role if turn.role == "other" else turn.role
    return Text.assemble((f"{name:>6}  ", _STYLES.get(turn.role, "")), turn.text)


def _call_line(call: FunctionCall) -> Text:
    line = Text.assemble(("called  ", "bold magenta"), (call.name, "magenta"), f"({call.params or ''})")
    return line if call.result is None else line.append(f" -> {call.result}")


def _found_lines(found: Sequence[Found], words: Sequence[str]) -> list[Text]:
    lines: list[Text] = []
    session: str | None = None
    for it in found:
        if it.session_id != session:
            session = it.session_id
            when = f"  {_when(it.started_at, it.received_at)}, agent {it.agent_id or 'unknown'}"
            lines += [Text("")] * bool(lines) + [Text.assemble((session, "bold"), (when, "dim"))]
        line = Text.assemble((f"{it.position:>4} ", "dim"), (f"{it.role:>6}  ", _STYLES.get(it.role, "")))
        lines.append(line.append_text(_excerpt(it.text, words)))
    return lines


def _excerpt(said: str, words: Sequence[str]) -> Text:
    """The turn with its matches marked, of a long one what stands around the first."""
    parts = {part for word in words for part in re.findall(r"[^\W_]+", word)}
    either = "|".join(sorted(map(re.escape, parts), key=len, reverse=True))
    match = re.compile(rf"(?i)(?<![^\W_])(?:{either})(?![^\W_])")
    first = match.search(said)
    start = max(0, (first.start() if first else 0) - _EXCERPT // 2)
    cut = said[start : start + _EXCERPT]
    text = Text(f"{'…' * (start > 0)}{cut}{'…' * (start + len(cut) < len(said))}")
    text.highlight_regex(match, _MATCH)
    return text


def _when(started_at: int | None, received_at: int) -> str:
    """To the second, in UTC."""
    time = rfc3339(received_at if started_at is None else started_at)
    return ("received " if started_at is None else "") + time[:19].replace("T", " ") + " UTC"
