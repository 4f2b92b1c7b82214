"""Transcripts as files: all that was said, and nothing that it could do."""

import csv
import io

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cli.transcript_formats import Csv, JsonLines, Markdown
from consumers.conversations import Conversation
from consumers.weaving import PlacedCall
from schemas.chat import Turn


def conversation(*turns: Turn, calls: tuple[PlacedCall, ...] = (), **more: object) -> Conversation:
    facts: dict[str, object] = {
        "session_id": "-Osession",
        "event_id": "e",
        "agent_id": "-agent",
        "caller_id": "c0ffee",
        "received_at": 1_700_000_100_000_000,
        "started_at": 1_700_000_000_000_000,
        "duration_ms": 31_500,
        "status": "user-ended",
        "original_status": "user-ended",
        "chat_state": "ok",
        "original_chat": None,
        "turns": list(turns),
        "function_calls_state": "ok",
        "function_calls": list(calls),
    }
    return Conversation(**{**facts, **more})  # type: ignore[arg-type]


WOVEN = conversation(
    Turn("user", "Open?", "user"),
    Turn("other", "a dog barks", "narrator"),
    Turn("agent", "From ten.\nTo nine.", "assistant"),
    calls=(
        PlacedCall("hang_up", None, None, None),
        PlacedCall("hours", '{"day":"monday"}', '"ten"', 1),
        PlacedCall("bye", None, None, 3),
        PlacedCall("greet", "{}", None, 0),
    ),
)


def rows(it: Conversation) -> list[dict[str, str]]:
    style = Csv()
    return list(csv.DictReader(io.StringIO((style.head + style.of(it)).decode(), newline="")))


def markdown(it: Conversation) -> list[str]:
    return Markdown().of(it).decode().split("\n\n")


def test_json_lines_have_everything_on_one_line() -> None:
    line = JsonLines().of(WOVEN)
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=Conversation) == WOVEN


def test_markdown_has_each_call_where_it_belongs() -> None:
    assert markdown(WOVEN) == [
        "# `-Osession`",
        "2023-11-14 22:13:20 UTC, 31.5 s, user-ended, agent `-agent`",
        "**called** `greet` with `{}`",
        "**user:** Open?",
        '**called** `hours` with `{"day":"monday"}`, result `"ten"`',
        "**narrator:** a dog barks",
        "**agent:** From ten.\\\nTo nine.",
        "**called** `bye`",
        "*When these were called is not known:*",
        "**called** `hang_up`",
        "",
    ]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("![](http://spy.example/x)", r"\!\[\](http://spy.example/x)"),
        ("<img src=x> &lt;", r"\<img src=x\> \&lt;"),
        ("# big", r"\# big"),
        ("a\n- b\n\n 1. c\n+ d\n2) e\n---\n===", "a\\\n\\- b\\\n\\\n1\\. c\\\n\\+ d\\\n2\\) e\\\n\\---\\\n\\==="),
        ("2026 was\nfine", "2026 was\\\nfine"),
        ("*a* _b_ `c` ~d~ |e| \\f $g$", r"\*a\* \_b\_ \`c\` \~d\~ \|e\| \\f \$g\$"),
        ("    code?\r\n\tcode?", "code?\\\ncode?"),
        ("\x1b[31mred \u202e", "\ufffd\\[31mred \ufffd"),
        ("", ""),
    ],
)
def test_what_was_said_is_plain_text_in_markdown(said: str, written: str) -> None:
    assert markdown(conversation(Turn("user", said)))[2] == f"**user:** {written}"


@settings(max_examples=400)
@given(st.lists(st.text(st.sampled_from("ab1 \t\n\\`*_[]()<>&#|~!$-+=.:;/{}@é'\"")), min_size=1, max_size=3))
def test_a_reader_of_markdown_finds_the_words_and_nothing_else(said: list[str]) -> None:
    calls = (PlacedCall(said[0], said[-1], None, 0),)
    text = Markdown().of(conversation(*(Turn("user", it) for it in said), calls=calls)).decode()
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    assert {token.type for token in tokens} <= {
        *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline")
    }
    blocks = [token.children or [] for token in tokens if token.type == "inline"]
    found = [it for block in blocks for it in block if it.type not in ("text", "text_special", "hardbreak")]
    assert {it.type for it in found} <= {"strong_open", "strong_close", "code_inline"}
    turns = ["".join(it.content or "\n" * (it.type == "hardbreak") for it in block) for block in blocks[3:]]
    lines = ["\n".join(line.strip() for line in it.strip().splitlines()) for it in said]
    assert turns == [f"user: {it}".rstrip() for it in lines]


def test_code_in_markdown_ends_where_it_ends() -> None:
    calls = (PlacedCall("`f``", '"a```b"', "`", 0), PlacedCall("a\n# b", None, " ", 0))
    assert markdown(conversation(calls=calls))[2:4] == [
        '**called** ``` `f`` ``` with ````"a```b"````, result `` ` ``',
        "**called** `a # b`, result `   `",
    ]


def test_markdown_says_what_there_is_not() -> None:
    assert markdown(conversation())[2:] == ["*Nothing was said.*", ""]
    assert markdown(conversation(chat_state="none"))[2:] == ["*No chat was sent.*", ""]
    broken = conversation(
        chat_state="unreadable",
        original_chat='"[{broken"',
        function_calls_state="unreadable",
        agent_id=None,
        started_at=None,
        duration_ms=None,
        original_status=None,
    )
    assert markdown(broken)[1:] == [
        "received 2023-11-14 22:15:00 UTC, unknown duration, no status, agent unknown",
        "*The chat could not be read. As it came:*",
        '`"[{broken"`',
        "*The function calls could not be read; the event has them as they came.*",
        "",
    ]


def test_csv_has_a_row_for_each_turn_and_call_in_their_order() -> None:
    found = rows(WOVEN)
    assert [(it["line"], it["kind"], it["role"] or it["function"], it["place_known"]) for it in found] == [
        ("1", "call", "greet", "yes"),
        ("2", "turn", "user", ""),
        ("3", "call", "hours", "yes"),
        ("4", "turn", "narrator", ""),
        ("5", "turn", "agent", ""),
        ("6", "call", "bye", "yes"),
        ("7", "call", "hang_up", "no"),
    ]
    assert found[4] == {
        "session_id": "'-Osession",
        "agent_id": "'-agent",
        "caller_id": "c0ffee",
        "started_at": "2023-11-14T22:13:20.000000Z",
        "received_at": "2023-11-14T22:15:00.000000Z",
        "duration_ms": "31500",
        "status": "user-ended",
        "chat_state": "ok",
        "line": "5",
        "kind": "turn",
        "role": "agent",
        "text": "From ten.\nTo nine.",
        "function": "",
        "params": "",
        "result": "",
        "place_known": "",
    }
    assert (found[2]["params"], found[2]["result"]) == ('{"day":"monday"}', '"ten"')


def test_a_call_of_which_nothing_is_known_has_a_row() -> None:
    (silent,) = rows(conversation(chat_state="none"))
    assert (silent["line"], silent["kind"], silent["text"]) == ("1", "nothing", "")
    (broken,) = rows(conversation(chat_state="unreadable", original_chat='"[{broken"'))
    assert (broken["kind"], broken["text"]) == ("original", '"[{broken"')


@pytest.mark.parametrize("first", [*"=+-@\t\n＝＋－＠'"])
def test_no_cell_is_a_formula_and_taking_one_apostrophe_away_leaves_what_was_said(first: str) -> None:
    said = f"{first}HYPERLINK(1)"
    calls = (PlacedCall(said, said, said, 1),)
    turn, call = rows(conversation(Turn("other", said, said), calls=calls, session_id=said, original_status=said))
    cells = [turn[name] for name in ("session_id", "status", "role", "text")]
    cells += [call[name] for name in ("function", "params", "result")]
    assert cells == ["'" + said] * 7


def test_csv_drives_no_terminal() -> None:
    (row,) = rows(conversation(Turn("user", "\x1b[31mred\r=1")))
    assert row["text"] == "\ufffd[31mred\ufffd=1"
