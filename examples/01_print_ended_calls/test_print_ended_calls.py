"""The example, without a broker."""

import pytest
from print_ended_calls import PrintEndedCalls

from consumers.testing import Trial, ended, odd_calls, unreadable


def test_each_ended_call_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Trial(ended("session-1"), ended("session-2", duration=None, chat="[{broken")) as trial:
        trial.run(PrintEndedCalls)
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "session-1: user-ended, 120 s, 2 turns",
        "session-2: user-ended, ? s, 0 turns",
    ]


def test_no_odd_call_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    with Trial(*odd_calls()) as trial:
        trial.run(PrintEndedCalls)
        assert trial.dead_letters == []
    assert len(capsys.readouterr().out.splitlines()) == len(odd_calls())


def test_what_is_no_event_is_given_up_at_once_and_the_others_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with Trial(ended("session-1"), unreadable()) as trial:
        trial.run(PrintEndedCalls)
        assert [letter.error for letter in trial.dead_letters] == ["UnreadableEvent"]
    assert "session-1: user-ended" in capsys.readouterr().out
