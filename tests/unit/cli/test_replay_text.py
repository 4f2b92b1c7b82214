"""What a replay says to people."""

from cli.replay_text import report_lines
from consumers.replay.building import Failure
from consumers.replay.comparison import Change, Differing
from consumers.replay.recipe import Window
from consumers.replay.replay import Report
from consumers.replay.swap import Swapped


def test_calls_that_moved_and_were_found_to_differ_under_the_lock_are_told_of() -> None:
    moved = Report(consumer="billing", window=Window(), events=3, sessions=2, moved=1, swapped=Swapped(1, 1, 0.04))
    assert list(report_lines(moved)) == [
        "3 events of 2 calls replayed, from the beginning, as far as billing is.",
        "1 call replaced in the live tables, and 1 derived event will tell of it. billing waited for 0.0 s.",
    ]
    unmoved = Report(consumer="billing", window=Window(), events=1, sessions=1, moved=1, swapped=Swapped(0, 0, 0.04))
    assert list(report_lines(unmoved))[1:] == ["The tables of billing are what the log says: nothing differs."]


def test_a_part_of_the_log_and_what_stays_as_it_is_are_named() -> None:
    failure = Failure("calls.ended", 1, 7, "e", None, "KeyError", "billing.py:7")
    change = Change("transcripts", added=1, changed=2)
    report = Report(
        consumer="transcripts",
        window=Window(since="2h", until="1h", partial=True),
        anew="it has another window",
        partial=4,
        moved=1,
        failures=[failure],
        given_up=2,
        differing=3,
        changes=[change],
        first=[Differing("-s", [change], [])],
    )
    assert list(report_lines(report)) == [
        "What an earlier replay had built was of no use: it has another window.",
        "0 events of 0 calls replayed, from 2h, until 1h.",
        "Left out, as transcripts has given them up: 2 events. `ringlog dead-letters list transcripts` has them.",
        "Left as they are, as not all of their events were replayed: 4 calls.",
        "Not compared yet, as an event of theirs came just now: 1 call.",
        "1 event failed, and would be dead letters; their calls stay as they are:",
        "  calls.ended/1/7  KeyError at billing.py:7, session unknown",
        "",
        "3 calls differ.",
        "",
        "  rows of         added   removed   changed",
        "  transcripts         1         0         2",
        "",
        "-s  transcripts 1 added, 2 changed",
        "... and 2 more.",
        "",
        "Nothing was changed. `ringlog replay transcripts --swap` puts this in place, --discard forgets it.",
    ]
