"""Money: an integer of minor units and a currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from recourse.step import Refusal


class CurrencyMismatchError(Refusal):
    """Amounts in different currencies cannot be added or paid from one account."""


def money(amount: int, currency: str) -> dict[str, Any]:
    """An amount as every row, event and answer shows it.

    Args:
        amount: Minor units (paise, cents).
        currency: ISO 4217, three capitals.
    """
    return {"amount": amount, "currency": currency}


def total(prices: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of amounts in one currency.

    Raises:
        CurrencyMismatchError: There are several currencies, or there is no amount at all.
    """
    prices = list(prices)
    currencies = sorted({price["currency"] for price in prices})
    if len(currencies) != 1:
        raise CurrencyMismatchError(f"one sum in one currency, not in {currencies}")
    return money(sum(price["amount"] for price in prices), currencies[0])
