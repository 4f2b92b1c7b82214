"""What the fold makes of events of every version there was, to the byte. How to add some: tests/golden/README.md."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.topics import CALLERS_FACTS
from state.fold import FOLD_VERSION
from tests.unit.state.events import Event, slices_of
from tests.unit.state.golden import (
    CORPUS,
    DIGESTS,
    EVENTS,
    EXPECTED,
    SUMS,
    digest_of,
    folded,
    folded_file,
    log_of,
    sum_of,
    sums,
    text_of,
)

ADVICE = "the fold has changed: raise FOLD_VERSION, and follow tests/golden/README.md"


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_fold_makes_of_old_events_what_it_always_made(tmp_path: Path, file: Path) -> None:
    rows = folded_file(tmp_path, file)
    assert text_of(rows) == (EXPECTED / file.name).read_text(), ADVICE
    assert digest_of(rows) == sums(EXPECTED / DIGESTS)[file.name], ADVICE


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
@pytest.mark.parametrize("seed", range(5))
def test_it_makes_the_same_of_them_in_any_order_and_batch(tmp_path: Path, file: Path, seed: int) -> None:
    chance = random.Random(seed)
    log = log_of(file)
    calls = [event for event in log if event.topic != CALLERS_FACTS.name]
    facts = [event for event in log if event.topic == CALLERS_FACTS.name]
    shuffled: list[Event] = [*chance.sample(calls, len(calls)), *facts]  # facts keep their order
    cuts = sorted(chance.sample(range(1, len(log)), 4))
    parts = [slices_of(shuffled[start:end], start) for start, end in pairwise((0, *cuts, len(log)))]
    assert digest_of(folded(tmp_path, *parts)) == sums(EXPECTED / DIGESTS)[file.name]


def test_files_know_nothing_of_each_other(tmp_path: Path) -> None:
    """So that what is expected of one never changes when another one is added."""
    alone = sorted(line for file in EVENTS for line in (EXPECTED / file.name).read_text().splitlines())
    together = folded(tmp_path, slices_of([event for file in EVENTS for event in log_of(file)]))
    assert sorted(text_of(together).splitlines()) == alone


def test_nothing_of_the_corpus_is_changed_or_removed() -> None:
    assert {file.name: sum_of(file) for file in EVENTS} == sums(SUMS)
    versions = sorted(folder.name for folder in (CORPUS / "expected").iterdir())
    assert versions == [f"v{number}" for number in range(2, FOLD_VERSION + 1)]  # the corpus began with 2
    assert list(sums(EXPECTED / DIGESTS)) == [file.name for file in EVENTS]
