"""Payment providers: what `services.cards` asks of one, and which one a stage has.

`PAYMENT_PROVIDER`, the CDK context `payment_provider`, says which:

- nothing: none, and card payments are refused;
- an address: a provider that keeps payments under the caller's reference (`reference`);
- `stripe:test`, `stripe:live`: Stripe, with a key of that mode (`stripe`);
- `stripe:http://127.0.0.1:…`: a stand-in for Stripe on loopback.

`PAYMENT_SECRET`, the context `payment_secret`, is the ARN of the secret with Stripe's key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

from recourse import Call, Money, Refusal


class CardDeclinedError(Refusal):
    """The provider declined the card."""


class InsufficientFundsError(Refusal):
    """The card has too little money or credit."""


class CardExpiredError(Refusal):
    """The card has expired."""


class CardInvalidError(Refusal):
    """There is no such card, or its details are wrong."""


class CardAuthenticationRequiredError(Refusal):
    """The card's bank wants the customer to confirm the payment, and a saga has no customer by."""


class AmountUnsupportedError(Refusal):
    """The provider does not take this amount, or this currency."""


class CardsUnavailableError(Refusal):
    """This stage has no payment provider (context `payment_provider`)."""


class CardPaymentGoneError(Refusal):
    """The provider has no authorised payment to capture: it was cancelled there, or has expired."""


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A payment as its provider has it.

    Attributes:
        payment: The provider's id of it.
        amount: What was authorised or captured.
        status: What it is now.
    """

    payment: str
    amount: Money
    status: Literal["AUTHORISED", "CAPTURED"]


Ended = Literal["VOIDED", "REFUNDED"]


class Gateway(Protocol):
    """A payment provider. Whatever it did not say, or not in time, is a `TransientError`."""

    def authorise(self, call: Call, amount: Money, token: str) -> Charge:
        """Have an amount reserved on a card, once for a saga.

        Raises:
            Refusal: The provider refuses it, and nothing is reserved.
        """

    def cancel(self, call: Call, payment: str | None) -> Ended:
        """Give back what the saga had authorised, or also captured.

        Args:
            call: The saga's.
            payment: The provider's id; None where it is unknown whether there is a payment. Then
                none can be authorised any more once this has returned.
        """

    def capture(self, call: Call, payment: str) -> Charge:
        """Take the money that was reserved, once.

        Raises:
            CardPaymentGoneError: Nothing is reserved any more.
        """

    def find(self, call: Call, payment: str) -> Charge | None:
        """The payment if it was captured."""


def gateway() -> Gateway:
    """The provider of this stage.

    Raises:
        CardsUnavailableError: It has none.
    """
    address = os.environ.get("PAYMENT_PROVIDER")
    if not address:
        raise CardsUnavailableError("this stage has no payment provider")
    return _made(address, os.environ.get("PAYMENT_SECRET", ""))


@cache
def _made(address: str, secret: str) -> Gateway:
    kind, colon, rest = address.partition(":")
    if kind == "stripe" and colon:
        from services.gateways.stripe import Stripe

        return Stripe.of(rest, secret)
    from services.gateways.reference import ReferenceProvider

    return ReferenceProvider(address)
