"""From two webhooks to an answer and three books, with everything real and everything that may go wrong on the way."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.whole_ringlog import WholeRinglog

pytestmark = pytest.mark.timeout(600)

CALLER = "+15551230000"

BOOKS = {
    "billing_entries": "select * from billing_entries order by session_id, event_id, type, provider",
    "transcripts": "select * from transcripts order by session_id",
    "transcript_turns": "select * from transcript_turns order by session_id, position",
    "transcript_function_calls": "select * from transcript_function_calls order by session_id, position",
    "recordings": "select session_id, status, object, bytes, sha256, content_type from recordings order by session_id",
}


@pytest.fixture(scope="module")
def ringlog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeRinglog]:
    """One for all tests of this file, in their order: what one test stops, it starts again."""
    with WholeRinglog(tmp_path_factory.mktemp("whole")) as ringlog:
        yield ringlog


def _books(ringlog: WholeRinglog) -> dict[str, list[dict[str, Any]]]:
    return {table: ringlog.rows(query) for table, query in BOOKS.items()}


def _simulate(calls: int, seed: int, *options: str) -> list[str]:
    """The arguments of a run; the same calls and seed are the same run."""
    shares = ["--duplicates", "10%", "--revisions", "5%", "--odd", "20%"]
    return ["simulate", "--calls", str(calls), "--seed", str(seed), *shares, "--verify", *options]


def test_the_documented_example_becomes_a_bill_a_transcript_a_recording_and_a_better_answer(
    ringlog: WholeRinglog,
) -> None:
    assert ringlog.prefetch(session_id="before", agent_id="agent001", **{"from": "+1234567890"}) == {
        "metadata": {},
        "extra_prompt": "",
    }
    sounds = ringlog.spawn("simulate", "--calls", "0", "--serve")
    try:
        status, answer = ringlog.end_of_call(_documented_example(ringlog.up["simulator"]))
        assert status == 200
        charges = ringlog.wait(
            lambda: ringlog.rows("select * from billing_entries where session_id = 'session123'"), "it is billed"
        )
        assert [(c["kind"], c["type"], c["provider"], c["amount_micros"], c["event_id"]) for c in charges] == [
            ("charge", "stt", "millis", 50_000, answer["event_id"])
        ]
        turns = ringlog.wait(
            lambda: ringlog.rows("select * from transcript_turns where session_id = 'session123' order by position"),
            "it is transcribed",
        )
        assert [(turn["role"], turn["text"]) for turn in turns] == [
            ("user", "Hi, I'd like to book a flight."),
            ("agent", "Sure! Can you provide the destination and date?"),
        ]
        (stored,) = ringlog.wait(
            lambda: ringlog.rows("select * from recordings where session_id = 'session123' and status = 'stored'"),
            "it is recorded",
        )
        assert stored["object"] == "agent001/2024/10/25/session123.wav"
        file = ringlog.data_dir / "recordings" / stored["object"]
        assert file.stat().st_size == stored["bytes"]
        known = ringlog.wait(lambda: _known(ringlog, "+1234567890"), "the next prefetch knows the call")
    finally:
        sounds.send_signal(signal.SIGINT)
        sounds.wait(20)
    assert known["metadata"] == {
        "customer_tier": "gold",
        "ringlog_calls": 1,
        "ringlog_last_call_at": "2024-10-25T07:18:00.886249Z",
        "ringlog_last_status": "user-ended",
        "ringlog_last_agent": "agent001",
    }
    assert known["extra_prompt"] == "This caller has called 1 time before, the last time on 2024-10-25."


def test_facts_that_a_user_sets_are_in_the_next_answer_and_go_when_deleted(ringlog: WholeRinglog) -> None:
    done = ringlog.ringlog("facts", "set", CALLER, "tier=gold", "visits:=3")
    assert (done.returncode, done.stdout) == (0, "2 facts were written.\n"), done.stderr
    known = ringlog.wait(lambda: _known(ringlog, CALLER), "the facts are known")
    assert known["metadata"] == {"tier": "gold", "visits": 3, "ringlog_facts": ["tier", "visits"]}
    shown = ringlog.ringlog("facts", "show", CALLER, "--json")
    assert json.loads(shown.stdout) == {"tier": "gold", "visits": 3}
    ended = {"session_id": "facts-1", "voip": {"from": CALLER}, "metadata": known["metadata"] | {"asked": "refund"}}
    assert ringlog.end_of_call(ended)[0] == 200
    ringlog.wait(lambda: _known(ringlog, CALLER)["metadata"].get("asked") == "refund", "the call is known")
    assert ringlog.ringlog("facts", "delete", CALLER).returncode == 0
    ringlog.wait(
        lambda: "tier" not in _known(ringlog, CALLER)["metadata"], "the facts are gone, though a call had them"
    )


def test_what_was_lost_on_the_way_is_asked_of_the_provider_and_then_the_books_are_complete(
    ringlog: WholeRinglog,
) -> None:
    lost = [
        "--calls",
        "200",
        "--seed",
        "23",
        "--duplicates",
        "10%",
        "--revisions",
        "5%",
        "--odd",
        "10%",
        "--lost",
        "10%",
    ]
    provider = ringlog.spawn("simulate", *lost, "--serve")
    asked = {"millis_api_url": f"http://{ringlog.up['simulator']}", "millis_api_key": "of-the-provider"}
    try:
        ringlog.wait(
            lambda: ringlog.rows("select count(*) as n from call_log where ended_at is not null")[0]["n"] >= 178,
            "what was not lost has ended",
        )
        # First those that were announced, one by one; then the list, with those of which nothing came at all.
        overdue = ringlog.ringlog("reconcile", "--since", "1s", "--rate", "100", "--json", longest_call_s="1", **asked)
        assert json.loads(overdue.stdout)["recovered"] == 10, overdue.stderr
        ringlog.wait(lambda: _recovered(ringlog) == 10, "the announced ones are recovered")
        listed = ringlog.ringlog("reconcile", "--since", "2026-01-01", "--rate", "100", "--json", **asked)
        assert json.loads(listed.stdout)["recovered"] == 10, listed.stderr
        ringlog.wait(lambda: _recovered(ringlog) == 20, "all are recovered")
        again = ringlog.ringlog("reconcile", "--since", "2026-01-01", "--rate", "100", "--json", **asked)
        assert json.loads(again.stdout)["recovered"] == 0, again.stderr
        loop = ringlog.spawn("reconcile", "--every", "1s", **ringlog.in_effect | asked | {"ops_port": "0"})
        time.sleep(6)
        loop.send_signal(signal.SIGTERM)
        told, _ = loop.communicate(timeout=30)
        assert loop.returncode == 0 and told.count("a pass is complete") >= 2, told
        assert _recovered(ringlog) == 20
        verified = ringlog.ringlog("simulate", *lost, "--no-deliver", "--verify")
        assert verified.returncode == 0, verified.stdout
    finally:
        provider.send_signal(signal.SIGINT)
        provider.wait(20)


def _recovered(ringlog: WholeRinglog) -> int:
    count: int = ringlog.rows("select count(*) as n from call_log where recovered")[0]["n"]
    return count


def test_simulated_calls_agree_to_the_micro_credit(ringlog: WholeRinglog) -> None:
    done = ringlog.ringlog(
        "simulate",
        "--calls",
        "300",
        "--seed",
        "11",
        "--duplicates",
        "10%",
        "--revisions",
        "5%",
        "--odd",
        "20%",
        "--verify",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("victim", ["service", "profiles", "billing", "transcripts", "recordings", "kafka"])
def test_a_process_that_is_killed_comes_back_and_the_books_are_right(ringlog: WholeRinglog, victim: str) -> None:
    seed = 100 + sum(victim.encode())
    simulation = ringlog.spawn(*_simulate(150, seed, "--rate", "50"))
    time.sleep(3)  # in the middle: the command needs about two to start, the calls three
    killed = ringlog.kill(victim)
    ringlog.wait(lambda: ringlog.up["pids"][victim] != killed, f"{victim} runs again")
    output, _ = simulation.communicate(timeout=300)
    assert simulation.returncode == 0, output


def test_both_webhooks_answer_while_kafka_is_stopped(ringlog: WholeRinglog) -> None:
    expected = _known(ringlog, "+1234567890")
    ringlog.kill("kafka", signal.SIGSTOP)
    try:
        slowest = 0.0
        for number in range(20):
            started = time.monotonic()
            assert _known(ringlog, "+1234567890", session_id=f"stopped-{number}") == expected
            slowest = max(slowest, time.monotonic() - started)
        cost = [{"type": "stt", "provider": "millis", "credit": 0.25}]
        status, answer = ringlog.end_of_call({"session_id": "while-stopped", "cost_breakdown": cost})
        assert status == 200
    finally:
        ringlog.kill("kafka", signal.SIGCONT)
    assert slowest < 1.0  # not a figure: an answer that waited for Kafka would have taken two
    bill = "select amount_micros, event_id from billing_entries where session_id = 'while-stopped'"
    ringlog.wait(
        lambda: ringlog.rows(bill) == [{"amount_micros": 250_000, "event_id": answer["event_id"]}],
        "what was spooled meanwhile is billed",
    )


def test_a_lost_state_store_and_a_lost_database_come_back_as_they_were(ringlog: WholeRinglog) -> None:
    before = ringlog.ringlog(*_simulate(300, 11, "--no-deliver"))
    assert before.returncode == 0, before.stdout + before.stderr
    answer, books = _known(ringlog, "+1234567890"), _books(ringlog)
    assert all(books.values())
    assert ringlog.stop() == 0
    shutil.rmtree(ringlog.data_dir / "state")
    for file in ringlog.data_dir.glob("ringlog.db*"):
        file.unlink()
    ringlog.start()
    ringlog.wait(lambda: _known(ringlog, "+1234567890") == answer, "the answer is as before")
    ringlog.wait(lambda: _books(ringlog) == books, "the books are as before")


def test_ctrl_c_leaves_no_process_behind_only_the_data_directory(ringlog: WholeRinglog) -> None:
    assert len(ringlog.up["pids"]) == 7
    assert ringlog.stop() == 0
    assert ringlog.left_behind() == []
    assert not (ringlog.data_dir / "up.json").exists()
    assert sorted(path.name for path in ringlog.directory.iterdir()) == ["data", "up.log"]
    ringlog.start()


@pytest.mark.slow
def test_two_thousand_calls_agree_to_the_micro_credit(ringlog: WholeRinglog) -> None:
    done = ringlog.ringlog(
        "simulate",
        "--calls",
        "2000",
        "--seed",
        "12",
        "--duplicates",
        "5%",
        "--revisions",
        "2%",
        "--odd",
        "5%",
        "--verify",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _known(ringlog: WholeRinglog, number: str, session_id: str = "asked") -> dict[str, Any]:
    """The answer for a caller who is known; empty while it says nothing."""
    answer = ringlog.prefetch(session_id=session_id, agent_id="agent001", **{"from": number})
    return answer if answer["metadata"] else {}


def _documented_example(simulator: str) -> dict[str, Any]:
    """The example of the provider's webhook page, its Python quotes made JSON, its recording at the simulator."""
    return {
        "chat": json.dumps(
            [
                {"role": "user", "content": "Hi, I'd like to book a flight."},
                {"role": "assistant", "content": "Sure! Can you provide the destination and date?"},
            ]
        ),
        "function_calls": [
            {
                "name": "check_status",
                "params": {"check": "true", "order_id": 6689, "session_id": "-OA1XVnwRGpaameIakJb"},
            }
        ],
        "ts": 1729840680.886249,
        "duration": 300,
        "agent_config": {"prompt": "You sell flights.", "tools": [{"header": {"x-key": "a secret"}}]},
        "agent_id": "agent001",
        "call_id": "call123",
        "chars_used": 1024,
        "session_id": "session123",
        "cost_breakdown": [{"type": "stt", "provider": "millis", "credit": 0.05}],
        "voip": {"provider": "twilio", "from": "+1234567890", "to": "+0987654321"},
        "recording": {"recording_url": f"http://{simulator}/recording123"},
        "metadata": {"customer_tier": "gold"},
        "call_status": "user-ended",
        "error_message": None,
    }
