"""Money: whole minor units of one currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recourse.errors import Refusal


class CurrencyMismatchError(Refusal):
    """Amounts in different currencies cannot be added or paid from one account."""


def is_currency(text: str) -> bool:
    """Whether it has the form of an ISO 4217 code."""
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


@dataclass(frozen=True, slots=True)
class Money:
    """So much of one currency, nothing at the least; what is owed is a matter of who pays whom.

    ::

        price = Money.of(row["price"]) * nights
        total = Money.total([price, Money(349, "INR")])

    A decision writes and answers it as `{"amount": …, "currency": …}`, and `of` reads that.

    Args:
        amount: Minor units (paise, cents).
        currency: ISO 4217, three capitals.

    Raises:
        ValueError: It is neither.
    """

    amount: int
    currency: str

    def __post_init__(self) -> None:
        whole = isinstance(self.amount, int) and not isinstance(self.amount, bool)
        if not whole or self.amount < 0:
            raise ValueError(
                f"an amount must be a whole number of minor units, 0 or more, got {self.amount!r}"
            )
        if not isinstance(self.currency, str) or not is_currency(self.currency):
            raise ValueError(f"a currency must be three capitals, got {self.currency!r}")

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Money:
        """What a row, a result or an answer shows."""
        return cls(item["amount"], item["currency"])

    @classmethod
    def total(cls, amounts: Iterable[Money]) -> Money:
        """The sum of amounts in one currency.

        Raises:
            CurrencyMismatchError: There are several currencies, or no amounts.
        """
        amounts = list(amounts)
        currencies = sorted({one.currency for one in amounts})
        if len(currencies) != 1:
            raise CurrencyMismatchError(f"one sum in one currency, not in {currencies}")
        return cls(sum(one.amount for one in amounts), currencies[0])

    def __add__(self, other: Money) -> Money:
        return Money.total([self, other])

    def __mul__(self, times: int) -> Money:
        return Money(self.amount * times, self.currency)
