"""Cards: payments through an external provider, over HTTP: authorise, void, capture.

Which provider a stage has is said in `services.gateways`. The payment's row in this service's table
(AUTHORISED, then CAPTURED, VOIDED or REFUNDED) holds its last known status, and the provider's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from recourse import (
    Call,
    CurrencyMismatchError,
    Decision,
    Item,
    Money,
    Put,
    TransientError,
    Update,
    action,
    undo,
)
from recourse.declare.step import plain
from services.gateways import (
    AmountUnsupportedError,
    CardAuthenticationRequiredError,
    CardDeclinedError,
    CardExpiredError,
    CardInvalidError,
    CardPaymentGoneError,
    CardsUnavailableError,
    Charge,
    InsufficientFundsError,
    gateway,
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card, by the token that the provider's form issued for it."""

    token: str


@dataclass(frozen=True, kw_only=True)
class AuthoriseAsk:
    """Which card pays."""

    card: Card


class Payment(TypedDict):
    """The result of an authorisation and of a capture."""

    payment: str
    amount: Mapping[str, Any]
    status: str


def payment_key(call: Call) -> str:
    """The key of the payment's row."""
    return f"payment#{call.saga_id}"


@action(
    AuthoriseAsk,
    external=True,
    refuses=[
        CardDeclinedError,
        AmountUnsupportedError,
        CardAuthenticationRequiredError,
        CardExpiredError,
        CardInvalidError,
        CardsUnavailableError,
        CurrencyMismatchError,
        InsufficientFundsError,
    ],
    settings=["PAYMENT_PROVIDER"],
    secrets=["PAYMENT_SECRET"],
    keeps={"payment": "the provider's id of it, by which the provider's books name it"},
)
def authorise(call: Call[AuthoriseAsk]) -> Decision[Payment]:
    """Have the provider authorise the sum of the earlier results' prices."""
    amount = Money.total(Money.of(one["price"]) for one in call.results.values() if one)
    charge = gateway().authorise(call, amount, call.ask.card.token)
    return Decision(
        result=_result(charge),
        writes=[
            Put(
                {
                    "pk": payment_key(call),
                    "saga_id": call.saga_id,
                    "owner": call.owner,
                    "payment": charge.payment,
                    "amount": charge.amount,
                    "status": "AUTHORISED",
                }
            )
        ],
    )


@undo(external=True, reads=lambda call: [payment_key(call)])
def void(call: Call[object, Payment | None]) -> Decision:
    """Cancel the authorised payment, or refund it if it was captured.

    If the authorisation never committed (`call.result` is None), it is unknown whether there is a
    payment; once this is done there is none and never will be.
    """
    known = call.result["payment"] if call.result else None
    status = gateway().cancel(call, known)
    result = {"payment": known or call.saga_id, "status": status}
    payment = call.item
    if payment is None:
        return Decision(result=result)
    turned = Update(payment["pk"], put={"status": status}, when={"status": payment["status"]})
    return Decision(result=result, writes=[turned])


def find_capture(call: Call) -> Decision[Payment] | None:
    """The result of a capture whose answer was lost, from the provider."""
    charge = gateway().find(call, _payment(call))
    return _captured(call, charge) if charge else None


@action(
    external=True,
    reads=lambda call: [payment_key(call)],
    refuses=[CardPaymentGoneError],
    find=find_capture,
    settings=["PAYMENT_PROVIDER"],
    secrets=["PAYMENT_SECRET"],
)
def capture(call: Call) -> Decision[Payment]:
    """Have the provider capture the authorised payment: the money moves."""
    return _captured(call, gateway().capture(call, _payment(call)))


def disagreement(row: Item, payment: str, status: str) -> str:
    """What is wrong between a payment's row and how its provider says that it stands; or nothing.

    A row that says AUTHORISED is of a saga under way, whose next step asks the provider itself.
    """
    if row["payment"] != payment:
        return f"our payment is {row['payment']}, and {payment} is another of the same saga"
    if row["status"] in ("AUTHORISED", status):
        return ""
    return f"our row says {row['status']}, and the provider {status}"


def _payment(call: Call) -> str:
    """The provider's id of the payment that was authorised."""
    row: Item | None = call.item
    if row is None:
        raise TransientError("there is no authorised payment of this saga")
    # A row that an earlier release wrote has none: its provider knew payments by the saga id.
    found: str = row.get("payment", call.saga_id)
    return found


def _captured(call: Call, charge: Charge) -> Decision[Payment]:
    turned = Update(payment_key(call), put={"status": "CAPTURED"}, when={"status": "AUTHORISED"})
    return Decision(result=_result(charge), writes=[turned])


def _result(charge: Charge) -> Payment:
    return {
        "payment": charge.payment,
        "amount": plain(charge.amount),
        "status": charge.status,
    }
