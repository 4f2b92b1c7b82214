"""`ringlog explain`: what the service answered is made again from the log, by edge, topics and builder as they are."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from consumers.call_log import CallLog
from consumers.database import migrate, open_engine
from runtime.settings import Settings
from schemas.answered import Answered, digest_of
from schemas.caller import Caller
from schemas.event import Record, decode_envelope
from schemas.facts import CallerFact, fact_key
from schemas.partition import partition_of
from schemas.topics import CALLS_PREFETCH
from service.answer import EMPTY
from tests.command import Command, environment, publish
from tests.edge import NUMBER, OPS_BEARER, Edge, call, records_of, running
from tests.ended_calls import ended, prefetched
from tests.integration.test_known_caller import ROOT, builder  # noqa: F401 - a fixture

ANN = Caller("c0ffee", "phone", NUMBER)


async def explain(settings: Settings, *arguments: str, code: int = 0) -> Any:
    """In a process of its own, beside the service."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "explain", *arguments, "--json"),
        env={**environment(settings), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, said = await process.communicate()
    assert process.returncode == code, said
    return json.loads(out)


class Asked:
    """Prefetches of one caller, and what they were answered, by session."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.answers: dict[str, bytes] = {}

    async def until(self, name: str, value: Any) -> None:
        """Asks, each time as another session, until the answer's metadata has it."""
        async with asyncio.timeout(40):
            while json.loads(await self.ask())["metadata"].get(name) != value:  # noqa: ASYNC110 - it happens in Kafka
                await asyncio.sleep(0.1)

    async def ask(self) -> bytes:
        session = f"-{len(self.answers)}"
        response = await self._edge.prefetch({"session_id": session, "agent_id": "-Om", "from": NUMBER})
        self.answers[session] = (await response.text()).encode()
        return self.answers[session]


async def test_each_answer_is_made_again_to_the_byte(settings: Settings, builder: object, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "default.j2").write_text("{{ tier }}, {{ calls }} calls")
    async with running(settings) as edge:
        asked = Asked(edge)
        for number, tier in enumerate(("tin", "gold"), 1):
            facts = json.dumps({f"tier{number}": tier})
            await edge.ops("PUT", f"/callers/{NUMBER}/facts", headers=OPS_BEARER, data=facts)
            await asked.until(f"tier{number}", tier)
            await edge.end(call(f"s-{number}", call_status="user-ended", ts=1_790_000_000 + number))
            await asked.until("ringlog_calls", number)
    *_, last = asked.answers
    for session in (last, "-0", *list(asked.answers)[1:-1:7]):
        (made,) = await explain(settings, session)
        assert made["confirmed"], made
        assert msgspec.json.encode(made["then"]) == asked.answers[session]
        assert made["now"] == json.loads(asked.answers[last])
    answered = [decode_envelope(it.value or b"").answered for it in await records_of(settings, CALLS_PREFETCH)]
    assert len(answered) == len(asked.answers)
    known = sum(it is not None and it.outcome == "known" for it in answered)
    summed = await explain(settings, "--last", "1000", "--prompts", str(tmp_path), "--diffs", "1")
    assert (summed["prefetches"], summed["unconfirmed"]) == (len(answered), 0)
    assert (summed["different"], summed["same"] + summed["unknown"]) == (known, len(answered) - known)
    (example,) = summed["examples"]
    assert any(line.startswith("+, ") for line in example["diff"])  # no fact is named tier


def announced(session: str, answered: Answered | None, at: int = 1, value: bytes | None = None) -> Record:
    record = prefetched(session, at, caller=ANN)
    envelope = replace(decode_envelope(record.value or b""), answered=answered)
    return replace(record, value=msgspec.json.encode(envelope) if value is None else value)


def fact(name: str, value: Any) -> Record:
    said = CallerFact(event_id="f", received_at=1, caller_id=ANN.id, fact=name, value=value)
    record = ended("s", 1, {})
    return replace(record, topic="callers.facts", key=fact_key(ANN.id, name), value=msgspec.json.encode(said))


@pytest.fixture
def ringlog(settings: Settings, topics: object) -> Command:
    return Command(settings.model_copy(update={"topic_partitions": 1}))


def put(ringlog: Command, *records: Record) -> None:
    place = partition_of(ANN.id.encode(), 2)
    asyncio.run(publish(ringlog.settings, *(replace(record, partition=place) for record in records)))


TIN = b'{"metadata":{"tier":"tin","ringlog_facts":["tier"]},"extra_prompt":""}'


def known(body: bytes, ended_offset: int = 0, facts_offset: int = 1, template: str | None = None) -> Answered:
    return Answered(
        outcome="known",
        digest=digest_of(body),
        template="built-in",
        template_digest=template or digest_of(Path("service/templates/default.j2").read_bytes()),
        ended_offset=ended_offset,
        facts_offset=facts_offset,
    )


def test_what_was_known_later_does_not_count(ringlog: Command) -> None:
    put(ringlog, fact("tier", "tin"), fact("tier", "gold"), announced("s", known(TIN)))
    (made,) = ringlog.json("explain", "s")
    assert (made["confirmed"], made["then"]) == (True, json.loads(TIN))
    assert made["now"]["metadata"]["tier"] == "gold"
    said = ringlog("explain", "s").stdout
    assert "the same answer, to the byte" in said and '-  "tier": "tin"' in said and '+  "tier": "gold"' in said
    assert NUMBER not in said


def test_an_answer_that_can_t_be_made_again_is_said_to_be_another_one(ringlog: Command) -> None:
    put(ringlog, fact("tier", "gold"), announced("s", known(TIN)))  # as if "tin" had been compacted away
    (made,) = ringlog.json("explain", "s", code=1)
    assert not made["confirmed"] and "a fact that was overwritten since" in made["why"]
    assert "a fact that was overwritten since" in ringlog("explain", "s", code=1).stdout


def test_a_template_whose_text_is_gone_is_named(ringlog: Command, tmp_path: Path) -> None:
    text = "{{ tier }}!"
    body = TIN.replace(b'"extra_prompt":""', b'"extra_prompt":"tin!"')
    put(ringlog, fact("tier", "tin"), announced("s", known(body, template=digest_of(text.encode()))))
    (made,) = ringlog.json("explain", "s", code=1)
    assert made["then"] is None and "The template built-in has another text now" in made["why"]
    assert ringlog.json("explain", "--last", "1")["different"] == 1
    (tmp_path / "default.j2").write_text(text)
    (made,) = ringlog.json("explain", "s", "--prompts", str(tmp_path))
    assert (made["confirmed"], made["then"], made["differs"]) == (True, json.loads(body), False)


def test_what_went_out_empty_says_why(ringlog: Command) -> None:
    failed, nothing = Answered(outcome="failed-open"), Answered(outcome="no-state")
    unknown = Answered(outcome="unknown", ended_offset=0, facts_offset=0)
    put(ringlog, fact("tier", "tin"), announced("f", failed), announced("n", nothing), announced("u", unknown))
    for session, why in (("f", "Answering failed"), ("n", "There was no state"), ("u", "the same answer, to the byte")):
        assert why in ringlog("explain", session).stdout
        (made,) = ringlog.json("explain", session)
        assert made["confirmed"] and made["then"] == json.loads(EMPTY)
    assert ringlog.json("explain", "--last", "9") == {
        "prefetches": 3,
        "different": 0,
        "same": 1,
        "unknown": 2,
        "unconfirmed": 0,
        "examples": [],
    }


def test_events_from_before_and_from_another_topic_are_not_explained(ringlog: Command) -> None:
    put(
        ringlog,
        announced("old", None),
        announced("-beyond", known(TIN, ended_offset=7)),
        announced("x", None, value=b"{"),
    )
    (made,) = ringlog.json("explain", "old", code=1)
    assert made["then"] is None and "older than what events remember" in made["why"]
    assert "ends at 0, before 7: the topic was made anew" in ringlog("explain", "-beyond", code=1).stdout
    assert "no prefetch of session 'x'" in ringlog("explain", "x", code=1).stderr
    assert "no prefetch of session 'nobody'" in ringlog("explain", "nobody", code=1).stderr


def test_the_log_of_calls_says_where_to_look_and_need_not_be_right(ringlog: Command) -> None:
    migrate(ringlog.settings)
    engine = open_engine(ringlog.settings)
    with engine.begin() as tx:
        CallLog().handle(tx, [announced("s", None), prefetched("elsewhere", 1, caller=Caller("bob", "phone"))])
    engine.dispose()
    put(ringlog, announced("s", known(TIN)), announced("elsewhere", known(TIN)))
    assert [made["session_id"] for made in ringlog.json("explain", "s", code=1)] == ["s"]
    assert [made["session_id"] for made in ringlog.json("explain", "elsewhere", code=1)] == ["elsewhere"]


def test_a_wrong_question_is_a_wrong_option(ringlog: Command, tmp_path: Path) -> None:
    assert "Name a session, or say --last N" in ringlog("explain", code=2).stderr
    assert "Name a session, or say --last N" in ringlog("explain", "s", "--last", "3", code=2).stderr
    assert "--prompts is wrong" in ringlog("explain", "s", "--prompts", str(tmp_path / "none"), code=2).stderr
