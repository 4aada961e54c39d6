"""Money: whole minor units of one currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from recourse.errors import Refusal


class CurrencyMismatchError(Refusal):
    """Amounts in different currencies cannot be added or paid from one account.

    ::

        try:
            total = Money(48000, "INR") + Money(499, "EUR")
        except CurrencyMismatchError:
            total = None  # show them one by one
    """


MINOR_DIGITS = {
    code: digits
    for digits, codes in (
        (
            0,
            "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        ),
        (
            2,
            "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN "
            "BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD "
            "FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW "
            "KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR "
            "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG "
            "SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD "
            "USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG",
        ),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for code in codes.split()
}
"""By ISO 4217 (list one, 2026), how many decimal digits the minor unit of each currency is.

What CLDR shows may have fewer: it shows COP and IQD without a fraction, and they have one.
"""


def flaw_of_currency(text: str) -> str | None:
    """Why it is not a currency of ISO 4217, whose minor units are known; None where it is."""
    return None if text in MINOR_DIGITS else "must be a currency of ISO 4217, such as INR"


def _is_code(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()


@dataclass(frozen=True, slots=True)
class Money:
    """So much of one currency, nothing at the least; what is owed is a matter of who pays whom.

    ::

        price = Money.of({"amount": 480000, "currency": "INR"}) * 3
        total = Money.total([price, Money(349, "INR")])
        str(total)      # "INR 14403.49": exact, for messages
        total.shown()   # "INR 14,403.49": for people

    A decision writes and answers it as `{"amount": …, "currency": …}`, and `of` reads that.

    Args:
        amount: Minor units (paise, cents; whole yen, for JPY has none).
        currency: ISO 4217, three capitals. What comes in is checked against the list
            (`flaw_of_currency`); a row may have a code that has been withdrawn since.

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
        if not isinstance(self.currency, str) or not _is_code(self.currency):
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

    @property
    def digits(self) -> int:
        """How many digits its minor unit is; 2 for a code that ISO 4217 does not have."""
        return MINOR_DIGITS.get(self.currency, 2)

    @property
    def value(self) -> Decimal:
        """The amount in the currency's unit, exact."""
        return Decimal((0, tuple(map(int, str(self.amount))), -self.digits))

    def __str__(self) -> str:
        return f"{self.currency} {self.value:f}"

    def shown(self) -> str:
        """It for people, by CLDR, with all of its minor units.

        This loads Babel, which takes a while: a message that a step raises says `str`.
        """
        from babel.numbers import format_currency

        pattern = f"¤¤ #,##0.{'0' * self.digits}".rstrip(".")
        return format_currency(
            self.value, self.currency, pattern, locale="en", currency_digits=False
        )

    def __add__(self, other: Money) -> Money:
        return Money.total([self, other])

    def __sub__(self, other: Money) -> Money:
        """What is left.

        Raises:
            ValueError: It is less than nothing.
            CurrencyMismatchError: The other is in another currency.
        """
        return Money(self.amount - other.amount, Money.total([self, other]).currency)

    def __mul__(self, times: int) -> Money:
        return Money(self.amount * times, self.currency)
