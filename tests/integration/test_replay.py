"""`ringlog replay billing` on a real log, while billing goes on: built anew, compared, swapped in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from consumers.billing import Billing
from consumers.replay import recipe
from consumers.tables import billing_entries, outbox, plan_charges, positions, revisions
from runtime.settings import Settings
from schemas.check import CHECK_SESSION, check_body
from schemas.derived import Charged
from schemas.event import Record
from tests.ended_calls import ended
from tests.integration.replay_scene import HISTORY, PLANS, Scene, call, doubling, open_scene, spread


@pytest.fixture
def scene(settings: Settings, database_url: str, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(settings, database_url, tmp_path) as scene:
        yield scene


def test_a_replay_of_books_that_are_right_says_so_and_changes_nothing(scene: Scene) -> None:
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    before = scene.rows(billing_entries, plan_charges, revisions, positions)
    said = scene.run("replay", "billing").stdout.splitlines()
    assert said == [
        "5 events of 4 calls replayed, from the beginning, as far as billing is.",
        "The tables of billing are what the log says: nothing differs.",
    ]
    assert scene.replay("billing", "--swap")["different"] is False
    assert scene.rows(billing_entries, plan_charges, revisions, positions) == before
    assert len(scene.told()) == 4 and scene.rows(outbox) == [[]]


def test_the_call_of_a_check_is_in_no_replay_either(scene: Scene) -> None:
    session = f"{CHECK_SESSION}1"
    scene.publish([*HISTORY, ended(session, 20, check_body(session, 1))])
    scene.consume(scene.billing(), 6)
    assert scene.replay("billing")["different"] is False


def test_a_consumer_that_was_moved_back_is_waited_for(scene: Scene) -> None:
    """Its books know what the log, as far as it has come, does not say: to swap would take it from them."""
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    bills = scene.bills()
    scene.run("positions", "set", "billing", "calls.ended=beginning", "--yes")
    said = scene.run("replay", "billing", "--swap", code=1).stderr
    assert "billing was moved back, and reads events again that its tables know already" in said
    assert scene.bills() == bills
    assert "billing was moved back" in scene.run("billing", "verify", code=1).stderr
    scene.consume(scene.billing(), 5)
    assert scene.replay("billing")["different"] is False


def test_a_bug_is_mended_and_the_bill_swapped_in_while_calls_keep_coming(scene: Scene) -> None:
    scene.publish(HISTORY)
    with doubling(), scene.consuming(scene.billing()):
        scene.consumed("billing", 5)
        scene.publish(spread([call("e", 11, 7), call("fx", 12, 8)]))
        scene.consumed("billing", 7)
    with scene.consuming(scene.billing()):
        scene.publish(spread([call("g", 13, 9)]))
        scene.consumed("billing", 8)
        found = scene.replay("billing", code=4)
        assert (found["events"], found["sessions"], found["differing"]) == (8, 7, 3)
        assert found["changes"] == [
            {"book": "revisions", "added": 0, "removed": 0, "changed": 4},
            {"book": "billing_entries", "added": 0, "removed": 0, "changed": 4},
        ]
        assert [tuple(it.values())[1:] for it in found["totals"]] == [
            ("adjustment", 1_000_000, 500_000),
            ("charge", 47_000_000, 32_000_000),
            ("USD", 360_000, 360_000),
        ]
        assert [it["session_id"] for it in found["first"]] == ["bx", "cx", "fx"]
        scene.run("billing", "verify", code=1)

        scene.publish(spread([call("bx", 20, 3), call("h", 21, 1)]))
        swapped = scene.replay("billing", "--swap")["swapped"]
        scene.publish(spread([call("i", 22, 1)]))
        scene.consumed("billing", 11)
        assert scene.run("billing", "verify").stdout.splitlines()[-1] == "The ledger agrees with the log."
        assert scene.replay("billing")["different"] is False
    # Of `bx` the last cost was told right, with its last revision: two are corrected, once each, by a new event.
    assert (swapped["sessions"], swapped["told"]) == (3, 2)
    told = scene.told()
    assert sum(it.entries[0].amount_micros == -5_000_000 for it in told) == 1
    assert (
        bills_told(told)
        == scene.bills()
        == dict.fromkeys("ahi", 1_000_000)
        | {
            "bx": 3_000_000,
            "cx": 5_000_000,
            "e": 7_000_000,
            "fx": 8_000_000,
            "g": 9_000_000,
        }
    )


def bills_told(told: Sequence[Charged]) -> dict[str, int]:
    found: dict[str, int] = {}
    for it in told:
        found[it.session_id] = found.get(it.session_id, 0) + sum(entry.amount_micros for entry in it.entries)
    return found


def test_rows_that_somebody_has_changed_are_put_right_and_nobody_is_told(scene: Scene) -> None:
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    right = scene.rows(billing_entries, plan_charges, revisions)
    entry, charge = billing_entries.c, plan_charges.c
    with scene.engine.connect() as tx:
        row = dict(tx.execute(select(billing_entries).where(entry.session_id == "a")).mappings().one())
    scene.change(
        update(billing_entries).where(entry.session_id == "a").values(amount_micros=7, caller_id="somebody"),
        delete(billing_entries).where(entry.session_id == "bx", entry.kind == "adjustment"),
        insert(billing_entries).values(**row | {"session_id": "invented"}),
        update(plan_charges).where(charge.session_id == "cx").values(amount_micros=1),
        delete(revisions).where(revisions.c.session_id == "cx"),
    )
    told = scene.told()
    found = scene.replay("billing", "--swap", "--quiet")
    assert found["changes"] == [
        {"book": "revisions", "added": 1, "removed": 0, "changed": 0},
        {"book": "billing_entries", "added": 1, "removed": 1, "changed": 1},
        {"book": "plan_charges", "added": 0, "removed": 0, "changed": 1},
    ]
    assert (found["swapped"]["sessions"], found["swapped"]["told"]) == (4, 0)
    assert scene.rows(billing_entries, plan_charges, revisions) == right
    scene.consume(scene.billing(), 5)
    assert scene.told() == told


def test_a_price_change_rewrites_no_old_bill_unless_it_is_asked_for(scene: Scene) -> None:
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    plans = scene.settings.billing_plans
    assert plans is not None
    plans.write_text(PLANS.replace("0.12", "0.24"))
    assert scene.replay("billing")["different"] is False
    charges = scene.rows(plan_charges)
    scene.change(
        update(plan_charges).where(plan_charges.c.session_id == "a").values(amount_micros=1),
        delete(plan_charges).where(plan_charges.c.session_id == "bx"),
    )
    assert scene.replay("billing", "--swap")["swapped"]["sessions"] == 1
    assert scene.rows(plan_charges) == [[row for row in charges[0] if row[0] != "bx"]]  # one without a row stays so
    found = scene.replay("billing", "--new-terms", "--swap")
    assert [it["after_micros"] for it in found["totals"] if it["of"] == "USD"] == [3 * 120_000]
    assert scene.replay("billing")["different"] is False


@contextmanager
def failing(event: Record) -> Iterator[None]:
    """Code that can't handle this event, whoever else can."""
    handle = Billing.handle

    def handle_others(self: Billing, tx: Connection, records: Sequence[Record]) -> None:
        if any(it.header("ce_id") == event.header("ce_id") for it in records):
            raise KeyError("nobody thought of that")
        handle(self, tx, records)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Billing, "handle", handle_others)
        yield


def test_what_billing_has_given_up_is_left_out_until_it_is_redriven(scene: Scene) -> None:
    scene.publish(HISTORY)
    revision_of_bx = HISTORY[2]
    with doubling(), failing(revision_of_bx):
        scene.consume(scene.billing(), 5)
    found = scene.replay("billing", code=4)
    assert (found["given_up"], found["failures"], found["sessions"]) == (1, [], 4)
    assert scene.bills()["bx"] == 4_000_000
    scene.run("dead-letters", "redrive", "billing", "--all")
    found = scene.replay("billing", "--swap")
    assert (found["given_up"], found["swapped"]["sessions"]) == (0, 2)
    assert scene.bills() == {"a": 1_000_000, "bx": 2_500_000, "cx": 5_000_000}
    assert "The ledger agrees with the log." in scene.run("billing", "verify").stdout


def test_an_event_that_the_new_code_fails_at_takes_nothing_away(scene: Scene) -> None:
    scene.publish(HISTORY)
    with doubling():
        scene.consume(scene.billing(), 5)
    with failing(HISTORY[3]):
        found = scene.replay("billing", "--swap", code=4)
        assert [(it["session_id"], it["error"]) for it in found["failures"]] == [("cx", "KeyError")]
        assert (found["failed"], found["swapped"]["sessions"]) == (1, 1)
        assert scene.bills() == {"a": 1_000_000, "bx": 2_500_000, "cx": 10_000_000}
        said = scene.run("replay", "billing", "--fresh", code=4).stdout
    assert "1 event failed, and would be dead letters; their calls stay as they are:" in said
    assert scene.replay("billing", "--fresh", "--swap")["swapped"]["sessions"] == 1


def test_what_was_built_by_other_code_or_of_another_window_is_built_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.publish(HISTORY)
    with doubling():
        scene.consume(scene.billing(), 5)
        assert scene.replay("billing")["different"] is False
    first = scene.replay("billing", code=4)
    assert first["anew"] is None
    assert scene.replay("billing", code=4) == first
    window = scene.replay("billing", "--from=0:1,1:0", code=4)
    assert (window["anew"], window["partial"] > 0) == ("it has another window", True)
    assert scene.replay("billing", code=4)["window"] == window["window"]
    assert scene.replay("billing", "--from=beginning", code=4)["anew"] == "it has another window"
    monkeypatch.setattr(recipe, "_code", lambda _plans: "mended")
    assert scene.replay("billing", code=4)["anew"] == "the code or the file of plans has changed"
    assert "is removed" in scene.run("replay", "billing", "--discard").stdout
    assert "There is no replay of billing" in scene.run("replay", "billing", "--discard").stdout


def test_what_people_are_told(scene: Scene) -> None:
    scene.publish(HISTORY)
    with doubling():
        scene.consume(scene.billing(), 5)
    said = scene.run("replay", "billing", code=4).stdout.splitlines()
    assert said == [
        "5 events of 4 calls replayed, from the beginning, as far as billing is.",
        "",
        "2 calls differ.",
        "",
        "  rows of             added   removed   changed",
        "  revisions               0         0         3",
        "  billing_entries         0         0         3",
        "",
        "  total of                    before  after  difference",
        "  billing_entries adjustment       1    0.5        -0.5",
        "  billing_entries charge          15      8          -7",
        "  plan_charges USD              0.18   0.18           0",
        "",
        "bx  adjustment 1 -> 0.5; charge 4 -> 2",
        "cx  charge 10 -> 5",
        "",
        "Nothing was changed. `ringlog replay billing --swap` puts this in place, --discard forgets it.",
    ]
    assert "2 calls replaced in the live tables, and 2 derived events will tell of it." in (
        scene.run("replay", "billing", "--swap").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--swap", "--discard"], "name one of them"),
        (["--quiet"], "--quiet is for --swap"),
        (["--from", "yesterday"], "--from is wrong: 'yesterday' is no time"),
        (["--until", "0:x"], "--until is wrong"),
        (["--from", "9:1"], "names partition"),
    ],
)
def test_what_is_wrong_in_a_command_is_said_in_a_sentence(scene: Scene, arguments: list[str], sentence: str) -> None:
    assert sentence in scene.run("replay", "billing", *arguments, code=2).stderr
    other = scene.run("replay", "calls", "--from", "0:1", code=2).stderr
    assert "doesn't say of which topic (calls.ended, calls.prefetch)" in other


def test_positions_of_another_log_are_refused(scene: Scene) -> None:
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    scene.change(update(positions).values(cluster_id="another"))
    assert "in the Kafka cluster another" in scene.run("replay", "billing", code=1).stderr


def test_without_positions_there_is_nothing_to_compare_with(scene: Scene) -> None:
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    scene.change(delete(positions))
    assert "billing has read nothing yet" in scene.run("replay", "billing", "--swap", code=1).stderr
    assert scene.bills() != {}


def test_a_mistake_that_is_mended_twice_is_told_twice(scene: Scene) -> None:
    scene.publish(HISTORY)
    scene.consume(scene.billing(), 5)
    spoil = update(billing_entries).where(billing_entries.c.session_id == "a").values(amount_micros=7)
    for times in (1, 2):
        scene.change(spoil)
        assert scene.replay("billing", "--swap")["swapped"]["told"] == 1
        scene.consume(scene.billing(), 5)
        corrections = [it for it in scene.told() if it.session_id == "a" and it.entries[0].amount_micros == 999_993]
        assert len(corrections) == times and {it.total_micros for it in corrections} == {1_000_000}
