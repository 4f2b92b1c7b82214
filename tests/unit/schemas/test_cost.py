"""What a call cost, from every shape of `cost_breakdown`."""

import msgspec
import pytest

from schemas.cost import Charge, cost_of
from schemas.money import MoneyError


def test_items_of_the_same_type_and_provider_are_one_charge() -> None:
    cost = cost_of(
        msgspec.Raw(
            b'[{"type":"tts","provider":"elevenlabs","credit":0.03},{"type":"stt","provider":"millis","credit":0.0043},'
            b'{"type":"tts","provider":"elevenlabs","credit":0.1,"prompt_tokens":7}]'
        )
    )
    assert cost is not None
    assert cost.charges == (Charge("stt", "millis", 4300), Charge("tts", "elevenlabs", 130_000))
    assert cost.total_micros == 134_300


@pytest.mark.parametrize("raw", [b"null", b" null ", b'[{"type":"stt","credit":null}]', b'[{"type":"stt"}]'])
def test_one_unknown_credit_makes_the_cost_unknown(raw: bytes) -> None:
    assert cost_of(msgspec.Raw(raw)) is None


def test_an_empty_list_is_a_known_cost_of_zero() -> None:
    cost = cost_of(msgspec.Raw(b"[]"))
    assert cost is not None
    assert (cost.charges, cost.total_micros) == ((), 0)


@pytest.mark.parametrize(
    ("item", "type_", "provider"),
    [
        (b'{"credit":1}', "unknown", "unknown"),
        (b'{"type": null, "provider": "", "credit":1}', "unknown", "unknown"),
        (b'{"type":7,"provider":["a"],"credit":1}', "7", '["a"]'),
    ],
)
def test_odd_names_are_kept(item: bytes, type_: str, provider: str) -> None:
    cost = cost_of(msgspec.Raw(b"[" + item + b"]"))
    assert cost is not None
    assert cost.charges == (Charge(type_, provider, 1_000_000),)


def test_an_odd_name_changes_no_other_item() -> None:
    cost = cost_of(
        msgspec.Raw(b'[{"type":"tts","provider":"p","credit":"0.5"},{"type":7,"provider":null,"credit":1e-6}]')
    )
    assert cost is not None
    assert cost.charges == (Charge("7", "unknown", 1), Charge("tts", "p", 500_000))


@pytest.mark.parametrize("raw", [b'"free"', b"{}", b"[null]", b"[1]", b'[{"credit":"much"}]', b'[{"credit":{}}]'])
def test_what_is_no_bill_is_refused(raw: bytes) -> None:
    with pytest.raises(MoneyError):
        cost_of(msgspec.Raw(raw))
