"""Files that are there whole, or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_LONGEST_NAME = 200  # of 255 bytes that a file system takes, with room for what makes the name another one


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends, over one that has it; a block that raises leaves nothing.

    Until then it is hidden beside it, under a name that ends in `.partial`. Raises `OSError`.
    """
    place = path.resolve()  # of a link, the file that it leads to
    partial = place.with_name(f".{place.name[:_LONGEST_NAME]}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
