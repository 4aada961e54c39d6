"""What the API shows of what services hold, and what an operator may put: one line a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le, Predicate

from recourse.saga import request_model
from recourse.step import Item, Put, Update
from services import counted, payments


def is_currency(text: str) -> bool:
    """Whether it has the form of an ISO 4217 code."""
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


Currency = Annotated[str, Predicate(is_currency)]
Count = Annotated[int, Ge(0), Le(10**9)]
Amount = Annotated[int, Ge(0), Le(10**15)]


@request_model
class Price:
    """An amount of minor units in a currency."""

    amount: Amount
    currency: Currency


@request_model
class CountedBody:
    """How many there are of a counted thing, and what one costs."""

    total: Count
    price: Price


@request_model
class AccountBody:
    """An account's currency and balance, in minor units."""

    currency: Currency
    balance: Amount


@dataclass(frozen=True)
class Counted:
    """A counted thing: `total` is `available`, `held` and `confirmed` together."""

    id: str
    total: int
    available: int
    held: int
    confirmed: int
    price: Price


@dataclass(frozen=True)
class Account:
    """An account: its `balance` is what is available and what is held."""

    id: str
    currency: str
    balance: int
    available: int
    held: int


Change = Callable[[str, Item | None, Mapping[str, Any]], Sequence[Put | Update] | None]


@dataclass(frozen=True)
class Holding:
    """A kind of thing that the API shows.

    Attributes:
        service: Whose table has it.
        noun: What one of it is called, and its keys begin with.
        body: What an operator puts.
        shown: What the API shows, as its description says it.
        show: A row as the API shows it.
        change: The writes that make a thing as the body says, by id and current row; None where
            what is held forbids it.
    """

    service: str
    noun: str
    body: type
    shown: type
    show: Callable[[Item], dict[str, Any]]
    change: Change

    def key(self, thing: str) -> str:
        """The key of a thing of this kind."""
        return f"{self.noun}#{thing}"


def _counted(service: str, noun: str) -> Holding:
    def change(
        thing: str, row: Item | None, body: Mapping[str, Any]
    ) -> Sequence[Put | Update] | None:
        return counted.change(noun, thing, row, body)

    return Holding(service, noun, CountedBody, Counted, counted.show, change)


HOLDINGS = {
    "flights": _counted("flights", "flight"),
    "hotels": _counted("hotels", "hotel"),
    "cars": _counted("cars", "car"),
    "stock": _counted("inventory", "item"),
    "accounts": Holding(
        "payments", "account", AccountBody, Account, payments.show, payments.change
    ),
}
