"""Payments: authorise, void, capture, refund, pay back; and transfers from one account to another.

A payment is a row that changes status (AUTHORISED, then VOIDED or CAPTURED, then REFUNDED), keyed
by the saga, so each saga has one payment. Another saga pays it back, with a movement of its own.

A transfer is a debit and a credit, each a row that is HELD, then SETTLED or RELEASED. The debit
holds the amount on the account that pays. The credit changes nothing of the account that is paid
until both are settled, in one transaction.
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
    Refusal,
    Update,
    action,
    undo,
)
from recourse.declare.step import plain
from services import accounts, prices
from services.accounts import (
    PaymentDeclinedError,
    UnknownAccountError,
    account_key,
    available,
    held,
    move,
)

INCOME = "income"
"""The merchant's account. It has no row: its balance is the sum of its postings, because every
capture would have to wait for that one row."""


class PaymentNotAuthorisedError(Refusal):
    """There is no authorised payment to capture, or no captured one to refund."""


class SameAccountError(Refusal):
    """A transfer must be to another account than the one that pays."""


class TransferNotHeldError(Refusal):
    """A transfer's debit and credit are not both held."""


RELEASED, SETTLED = {"status": "RELEASED"}, {"status": "SETTLED"}


def payment_key(call: Call) -> str:
    """The key of the saga's payment."""
    return f"payment#{call.saga_id}"


@dataclass(frozen=True, kw_only=True)
class Payer:
    """The account that pays."""

    account_id: str


class Authorised(TypedDict):
    """What authorising returns."""

    payment_id: str
    account_id: str
    amount: Any
    status: str


@dataclass(frozen=True, kw_only=True)
class AuthoriseAsk:
    """Who pays."""

    payment: Payer


@action(
    AuthoriseAsk,
    reads=lambda call: [account_key(call.ask.payment.account_id)],
    refuses=[PaymentDeclinedError, UnknownAccountError, CurrencyMismatchError],
    keeps=accounts.KEEPS | {"payment_id": "it is made from the id of the saga"},
)
def authorise(call: Call[AuthoriseAsk]) -> Decision[Authorised]:
    """Hold the sum of the earlier results' prices, less what they say is covered.

    Where nothing is left, nothing is held; the account must be there all the same.
    """
    amount = prices.due(call.results)
    name = call.ask.payment.account_id
    payment = {
        "pk": payment_key(call),
        "saga_id": call.saga_id,
        "account_id": name,
        "amount": plain(amount),
        "status": "AUTHORISED",
        "owner": call.owner,
    }
    return Decision(
        result=_shown(payment), writes=accounts.hold(call, "authorise", amount, payment)
    )


@undo(reads=lambda call: [payment_key(call)])
def void(call: Call) -> Decision:
    """Release what was authorised; after a refund there is nothing left to release."""
    if call.item is not None and call.item["status"] == "REFUNDED":
        return Decision(result={"payment_id": call.item["pk"], "status": "REFUNDED"})
    payment = _payment(call, "AUTHORISED")
    name, value = payment["account_id"], payment["amount"]["amount"]
    return _turned(call, "void", payment, "VOIDED", {held(name): -value, available(name): value})


@action(reads=lambda call: [payment_key(call)], refuses=[PaymentNotAuthorisedError])
def capture(call: Call) -> Decision:
    """Move what was authorised from the account to the merchant's income."""
    payment = _payment(call, "AUTHORISED")
    name, value = payment["account_id"], payment["amount"]["amount"]
    return _turned(call, "capture", payment, "CAPTURED", {held(name): -value, INCOME: value})


@undo(reads=lambda call: [payment_key(call)])
def refund(call: Call) -> Decision:
    """Refund what was captured; for a saga that captures before its pivot."""
    return _refunded(call)


@dataclass(frozen=True, kw_only=True)
class Payment:
    """A payment, by its id."""

    payment_id: str


@dataclass(frozen=True, kw_only=True)
class PayBackAsk:
    """The payment to pay back."""

    payment: Payment


@action(
    PayBackAsk,
    reads=lambda call: [call.ask.payment.payment_id],
    refuses=[PaymentNotAuthorisedError],
)
def pay_back(call: Call[PayBackAsk]) -> Decision:
    """Pay back, in full, what another saga has captured."""
    return _refunded(call, {"reversed_by": call.saga_id})


def _refunded(call: Call, by: Mapping[str, str] | None = None) -> Decision:
    payment = _payment(call, "CAPTURED")
    name, value = payment["account_id"], payment["amount"]["amount"]
    back = {INCOME: -value, available(name): value}
    return _turned(call, "refund", payment, "REFUNDED", back, by)


def _payment(call: Call, status: str) -> Item:
    payment = call.item
    if payment is None or payment["status"] != status:
        found = payment["status"] if payment else "no payment"
        raise PaymentNotAuthorisedError(f"the payment must be {status}, got {found}")
    return payment


def _turned(
    call: Call,
    what: str,
    payment: Item,
    status: str,
    postings: Mapping[str, int],
    by: Mapping[str, str] | None = None,
) -> Decision:
    """The payment in another status, and the money moved."""
    put = {"status": status, **(by or {})}
    turn = Update(payment["pk"], put=put, when={"status": payment["status"]})
    ended = accounts.ended(payment) if payment["status"] == "AUTHORISED" else None
    moved = move(call, what, payment["amount"]["currency"], postings, holding=ended)
    return Decision(result=_shown(payment | {"status": status}), writes=[turn, *moved])


def _shown(payment: Item) -> Any:
    shown = {name: payment[name] for name in ("account_id", "amount", "status")}
    return {"payment_id": payment["pk"], **shown}


@dataclass(frozen=True, kw_only=True)
class DebitAsk:
    """Which account pays how much, and to which."""

    from_account: str
    to_account: str
    amount: Money


@dataclass(frozen=True, kw_only=True)
class CreditAsk:
    """Which account is paid, and how much."""

    to_account: str
    amount: Money


def debit_key(call: Call) -> str:
    """The key of the saga's debit."""
    return f"debit#{call.saga_id}"


def credit_key(call: Call) -> str:
    """The key of the saga's credit."""
    return f"credit#{call.saga_id}"


@action(
    DebitAsk,
    reads=lambda call: [account_key(call.ask.from_account)],
    refuses=[PaymentDeclinedError, UnknownAccountError, CurrencyMismatchError, SameAccountError],
    keeps=accounts.KEEPS,
)
def debit(call: Call[DebitAsk]) -> Decision:
    """Hold the amount on the account that pays."""
    name, amount = call.ask.from_account, call.ask.amount
    if name == call.ask.to_account:
        raise SameAccountError(f"account {name} cannot be paid from itself")
    side = _side(call, debit_key(call), name, amount)
    return Decision(result=_side_shown(side), writes=accounts.hold(call, "debit", amount, side))


@undo(reads=lambda call: [debit_key(call)])
def release_debit(call: Call) -> Decision:
    """Release the amount."""
    (side,) = _held(call)
    name, value = side["account_id"], side["amount"]["amount"]
    postings = {held(name): -value, available(name): value}
    ended = accounts.ended(side)
    moved = move(call, "release", side["amount"]["currency"], postings, holding=ended)
    return Decision(result=_side_shown(side | RELEASED), writes=[_turn(side, RELEASED), *moved])


@action(
    CreditAsk,
    reads=lambda call: [account_key(call.ask.to_account)],
    refuses=[UnknownAccountError, CurrencyMismatchError],
)
def credit(call: Call[CreditAsk]) -> Decision:
    """Note the amount for the account that is paid, whoever owns it."""
    name, amount = call.ask.to_account, call.ask.amount
    if call.item is None:
        raise UnknownAccountError(f"there is no account {name}")
    accounts.must_be_in(call.item, amount)
    side = _side(call, credit_key(call), name, amount)
    return Decision(result=_side_shown(side), writes=[Put(side)])


@undo(reads=lambda call: [credit_key(call)])
def release_credit(call: Call) -> Decision:
    """Withdraw the note."""
    (side,) = _held(call)
    return Decision(result=_side_shown(side | RELEASED), writes=[_turn(side, RELEASED)])


@action(
    reads=lambda call: [debit_key(call), credit_key(call)],
    refuses=[TransferNotHeldError],
)
def settle(call: Call) -> Decision:
    """Move the amount from what one account holds to what the other can spend."""
    paid, got = _held(call)
    amount = Money.of(paid["amount"])
    moved = move(
        call,
        "settle",
        amount.currency,
        {held(paid["account_id"]): -amount.amount, available(got["account_id"]): amount.amount},
        holding=accounts.ended(paid),
    )
    return Decision(
        result={
            "from_account": paid["account_id"],
            "to_account": got["account_id"],
            "amount": amount,
            **SETTLED,
        },
        writes=[_turn(paid, SETTLED), _turn(got, SETTLED), *moved],
    )


def _side(call: Call, key: str, account: str, amount: Money) -> Item:
    return {
        "pk": key,
        "saga_id": call.saga_id,
        "account_id": account,
        "amount": plain(amount),
        "status": "HELD",
        "owner": call.owner,
    }


def _side_shown(side: Item) -> Item:
    return {name: side[name] for name in ("account_id", "amount", "status")}


def _held(call: Call) -> list[Item]:
    """The call's debit and credit, which are held."""
    sides = [side for side in call.items if side is not None and side["status"] == "HELD"]
    if len(sides) != len(call.items):
        raise TransferNotHeldError("the transfer's debit and credit must be HELD")
    return sides


def _turn(side: Item, status: Mapping[str, str]) -> Update:
    return Update(side["pk"], put=status, when={"status": "HELD"})
