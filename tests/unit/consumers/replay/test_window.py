"""Which part of the log is meant."""

import pytest

from consumers.replay.window import offsets_of


@pytest.mark.parametrize(
    ("said", "offsets"),
    [
        ("0:1200", {(None, 0): 1200}),
        ("0:1200,1:900", {(None, 0): 1200, (None, 1): 900}),
        ("calls.ended/0:7, calls.prefetch/3:0", {("calls.ended", 0): 7, ("calls.prefetch", 3): 0}),
        ("2h", None),
        ("2026-01-31T09:30", None),
        ("09:30:00", None),
        ("0:-1", None),
        ("0:1,", None),
        ("", None),
    ],
)
def test_offsets_are_told_from_times(said: str, offsets: dict[tuple[str | None, int], int] | None) -> None:
    assert offsets_of(said) == offsets
