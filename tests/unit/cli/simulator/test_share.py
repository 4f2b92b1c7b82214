import pytest

from cli.simulator.share import ShareError, parse_share


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 2.5 % ", 0.025), ("0", 0), ("1", 1), ("100%", 1)]
)
def test_a_share_is_written_in_percent_or_as_a_fraction(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "%", "five", "5", "101%", "-1%", "nan", "inf", "5%%"])
def test_anything_else_is_refused_with_what_was_said(text: str) -> None:
    with pytest.raises(ShareError, match=r"write a share as 5% or 0\.05") as refused:
        parse_share(text)
    assert repr(text) in str(refused.value)
