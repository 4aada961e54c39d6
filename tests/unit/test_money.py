"""Money cannot be wrong, and is stored and answered as it always was."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
from babel.numbers import list_currencies
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.asks import AskError, make
from recourse.declare.money import MINOR_DIGITS, CurrencyMismatchError, Money, flaw_of_currency
from recourse.declare.step import AtLeast, Decision, Put, Update
from recourse.store.items import decode_item, encode_item

EVERY = st.builds(Money, st.integers(0, 10**24), st.sampled_from([*MINOR_DIGITS, "HRK"]))
AMOUNTS = st.builds(Money, st.integers(0, 10**15), st.just("INR"))


@pytest.mark.parametrize("amount", [-1, 1.0, True, "1", None])
def test_an_amount_is_whole_minor_units(amount: Any) -> None:
    with pytest.raises(ValueError, match=f"whole number of minor units, 0 or more, got {amount!r}"):
        Money(amount, "INR")


@pytest.mark.parametrize("currency", ["", "IN", "INRS", "inr", "IN1", "ÄÖÜ", None, 356])
def test_a_currency_is_three_capitals(currency: Any) -> None:
    with pytest.raises(ValueError, match=f"three capitals, got {currency!r}"):
        Money(1, currency)


def test_what_comes_in_is_a_currency_of_iso_4217() -> None:
    assert MINOR_DIGITS.keys() <= list_currencies()
    assert [flaw_of_currency(code) is None for code in ("JPY", "KWD", "ABC", "XXX", "inr", "")] == [
        *(True, True, False, False, False, False)
    ]


@pytest.mark.parametrize(
    ("price", "exact", "shown"),
    [
        (Money(4800, "JPY"), "JPY 4800", "JPY 4,800"),
        (Money(4800, "KRW"), "KRW 4800", "KRW 4,800"),
        (Money(4800, "KWD"), "KWD 4.800", "KWD 4.800"),
        (Money(480000, "INR"), "INR 4800.00", "INR 4,800.00"),
        (Money(5, "KWD"), "KWD 0.005", "KWD 0.005"),
        (Money(0, "CLF"), "CLF 0.0000", "CLF 0.0000"),
        (Money(480050, "HUF"), "HUF 4800.50", "HUF 4,800.50"),  # CLDR alone rounds these two
        (Money(480050, "COP"), "COP 4800.50", "COP 4,800.50"),
        (Money(480050, "HRK"), "HRK 4800.50", "HRK 4,800.50"),  # withdrawn; in old rows
    ],
)
def test_it_is_shown_with_the_minor_units_of_its_currency(
    price: Money, exact: str, shown: str
) -> None:
    assert str(price) == exact
    assert price.shown() == shown


@given(EVERY)
def test_what_is_shown_is_the_amount_to_the_last_minor_unit(price: Money) -> None:
    assert price.shown().replace(",", "") == str(price)
    code, _, number = str(price).partition(" ")
    assert (code, int(number.replace(".", ""))) == (price.currency, price.amount)


def test_it_cannot_be_changed() -> None:
    price: Any = Money(1, "INR")
    with pytest.raises(FrozenInstanceError):
        price.amount = 2


@given(AMOUNTS, AMOUNTS, st.integers(0, 9))
def test_sums_and_multiples_are_exact(one: Money, other: Money, times: int) -> None:
    assert (one + other) - other == one
    assert one + other == other + one == Money(one.amount + other.amount, "INR")
    assert one * times == Money.total([Money(0, "INR"), *[one] * times])


def test_currencies_are_never_mixed() -> None:
    for amounts in ([Money(1, "INR"), Money(1, "EUR")], []):
        with pytest.raises(CurrencyMismatchError, match="one sum in one currency"):
            Money.total(amounts)
    with pytest.raises(CurrencyMismatchError, match=r"not in \['EUR', 'INR'\]"):
        Money(1, "INR") + Money(1, "EUR")


def test_a_decision_writes_and_answers_it_plainly() -> None:
    price = Money(1899, "INR")
    shown = {"amount": 1899, "currency": "INR"}
    decision: Decision = Decision(
        result={"price": price, "lines": ({"price": price},)},
        writes=[
            Put({"pk": "a", "price": price, "all": [price]}),
            Update("b", put={"price": price}, when={"price": price, "free": AtLeast(1)}),
        ],
    )
    assert decision.result == {"price": shown, "lines": [{"price": shown}]}
    put, update = decision.writes
    assert isinstance(put, Put) and isinstance(update, Update)
    assert decode_item(encode_item(put.item)) == {"pk": "a", "price": shown, "all": [shown]}
    assert update == Update("b", put={"price": shown}, when={"price": shown, "free": AtLeast(1)})
    assert Money.of(decision.result["price"]) == price


@dataclass(frozen=True)
class Ask:
    fee: Money


def test_a_step_is_asked_for_it_like_for_anything_else() -> None:
    assert make(Ask, {"fee": {"amount": 5, "currency": "INR"}}).fee == Money(5, "INR")
    with pytest.raises(AskError, match=r"^fee of the request must be of Money: a currency must be"):
        make(Ask, {"fee": {"amount": 5, "currency": "rupees"}})


def test_nothing_less_than_nothing_is_left_and_only_of_one_currency() -> None:
    assert Money(5, "INR") - Money(5, "INR") == Money(0, "INR")
    with pytest.raises(ValueError, match="0 or more, got -1"):
        Money(4, "INR") - Money(5, "INR")
    with pytest.raises(CurrencyMismatchError):
        Money(5, "INR") - Money(5, "EUR")
