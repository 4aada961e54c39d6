"""Money as Stripe counts it, which for some currencies is not as ISO 4217 does.

By https://docs.stripe.com/currencies: an amount is in the currency's smallest unit. Of currencies
without one it is whole, ISK and UGX excepted, which have two digits that must be zeros; MGA is
whole though ISO counts hundredths; of currencies with three digits the last must be a zero.
"""

from __future__ import annotations

from recourse import Money
from recourse.declare.money import MINOR_DIGITS
from services.gateways import AmountUnsupportedError

HUNDREDTHS_OF_WHOLE = frozenset({"ISK", "UGX"})
WHOLE_OF_HUNDREDTHS = frozenset({"MGA"})
THREE_DIGITS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
UNKNOWN = frozenset({"CLF", "IQD", "LYD", "UYI", "UYW"})
"""Currencies of ISO 4217 with none, three or four digits that Stripe does not list."""


def to_stripe(money: Money) -> int:
    """An amount as Stripe counts it.

    Raises:
        AmountUnsupportedError: Stripe has no such amount or currency.
    """
    amount, currency = money.amount, money.currency
    if currency not in MINOR_DIGITS or currency in UNKNOWN:
        raise AmountUnsupportedError(f"Stripe takes no {currency}")
    if not amount:
        raise AmountUnsupportedError(f"{money} is nothing to pay by card")
    if currency in HUNDREDTHS_OF_WHOLE:
        return amount * 100
    if currency in WHOLE_OF_HUNDREDTHS:
        if amount % 100:
            raise AmountUnsupportedError(f"Stripe takes whole {currency} only, not {money}")
        return amount // 100
    if currency in THREE_DIGITS and amount % 10:
        raise AmountUnsupportedError(f"Stripe takes {currency} with two digits only, not {money}")
    return amount


def from_stripe(amount: int, currency: str) -> Money:
    """The amount that Stripe counts so.

    Raises:
        ValueError: It counts none so.
    """
    code = currency.upper()
    if code in HUNDREDTHS_OF_WHOLE:
        whole, rest = divmod(amount, 100)
        if rest:
            raise ValueError(f"{amount} {currency} is no whole amount")
        return Money(whole, code)
    return Money(amount * 100 if code in WHOLE_OF_HUNDREDTHS else amount, code)
