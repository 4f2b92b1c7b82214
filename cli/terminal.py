"""What a terminal may be given."""

import re

# What others have said must not drive the reader's terminal: no escape sequences, no other control characters.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Of the same length."""
    return _CONTROLS.sub("\ufffd", text)
