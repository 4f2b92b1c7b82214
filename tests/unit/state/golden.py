"""The golden corpus: events as they lay in topics, and what the fold made of them."""

import hashlib
from pathlib import Path

import msgspec

from state.dump import described
from state.fold import FOLD_VERSION
from state.slices import Slice
from state.store import ProfileStore
from state.view import POSITIONS, Row
from tests.unit.state.events import Event, slices_of

CORPUS = Path(__file__).parents[2] / "golden"
EVENTS = sorted((CORPUS / "events").glob("*.jsonl"))
EXPECTED = CORPUS / "expected" / f"v{FOLD_VERSION}"
DIGESTS = "digests.txt"  # in the manner of sha256sum, and so is:
SUMS = CORPUS / "events" / "sha256sums.txt"


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A record; its offset is the number of its line."""

    topic: str
    appended_ms: int
    key: str
    value: str | None = None
    value_base64: bytes | None = None  # of what is no UTF-8


def log_of(file: Path) -> list[Event]:
    return [_event(msgspec.json.decode(line, type=_Line)) for line in file.read_bytes().splitlines()]


def _event(line: _Line) -> Event:
    value = line.value.encode() if line.value is not None else line.value_base64
    return Event(line.topic, line.key.encode(), value, line.appended_ms)


def folded(path: Path, *parts: list[Slice]) -> list[Row]:
    """What a fresh store in `path` holds, without the positions."""
    store = ProfileStore(path)
    for part in parts:
        store.fold(part)
    rows = [row for row in store.dump() if row[0] != POSITIONS]
    store.close()
    return rows


def folded_file(path: Path, file: Path) -> list[Row]:
    return folded(path, slices_of(log_of(file)))


def text_of(rows: list[Row]) -> str:
    return "".join(msgspec.json.encode(described(row)).decode() + "\n" for row in rows)


def digest_of(rows: list[Row]) -> str:
    """Of the bytes as they are stored: what the text can't show."""
    digest = hashlib.sha256()
    for database, key, value in rows:
        for part in (database.encode(), key, value):
            digest.update(len(part).to_bytes(4, "little") + part)
    return digest.hexdigest()


def sums(file: Path) -> dict[str, str]:
    """By file name, in the order of the names."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: digest for digest, name in (line.split() for line in lines)}


def sum_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_missing(scratch: Path) -> list[str]:
    """Writes down what this fold makes of files of which nothing is written down yet; their names."""
    EXPECTED.mkdir(parents=True, exist_ok=True)
    known, kept, new = sums(EXPECTED / DIGESTS), sums(SUMS), []
    for file in EVENTS:
        kept.setdefault(file.name, sum_of(file))
        if file.name not in known:
            rows = folded_file(scratch / file.stem, file)
            (EXPECTED / file.name).write_text(text_of(rows))
            known[file.name] = digest_of(rows)
            new.append(file.name)
    for where, written in ((EXPECTED / DIGESTS, known), (SUMS, kept)):
        where.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(written.items())))
    return new


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        print("\n".join(write_missing(Path(scratch))) or "Nothing was missing.")  # noqa: T201
