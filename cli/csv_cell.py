"""A cell of CSV that holds a guest's word: it must do nothing in the spreadsheet that opens it."""

from cli.terminal import printable

# Spreadsheets take a cell that begins so for a formula, which may fetch and send things. After an apostrophe it is
# text; where one was already, there are two, so that taking one away leaves what was said.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")


def csv_cell(text: str) -> str:
    """For every text that is not our own, ids too. Amounts don't go through it: one below zero is a number."""
    plain = printable(text)
    return "'" + plain if plain.startswith(_FORMULA) else plain
