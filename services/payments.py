"""Payments: authorise, void, capture, refund, on a double-entry ledger.

A `Gateway` moves the money. The one used here is a ledger in this service's own table: every
movement is a row of postings that sum to zero, and an account's row holds the sum of its postings.
A payment is a row that changes status (AUTHORISED, then VOIDED or CAPTURED, then REFUNDED), keyed
by the saga, so each saga has one payment.

Another `Gateway` can replace the ledger by an external provider, which it calls with
`payment_key(call)` as the idempotency key; it returns the row to write. See docs/add-a-step.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from recourse import (
    AtLeast,
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

INCOME = "income"
"""The merchant's account. It has no row: its balance is the sum of its postings, because every
capture would have to wait for that one row."""

OUTSIDE = "outside"
"""The account that opening balances are posted from."""


ADDS_UP = "an account's balance is the sum of its postings, which name it"


class UnknownAccountError(Refusal):
    """There is no such account, or another owner has it: a saga is not told which."""


class PaymentDeclinedError(Refusal):
    """The account has too little available."""


class PaymentNotAuthorisedError(Refusal):
    """There is no authorised payment to capture, or no captured one to refund."""


class Gateway(Protocol):
    """Moves the money. Each method decides; the runtime commits the decision that it returns."""

    def authorise(self, call: Call, account: Item, amount: Money) -> Decision:
        """Authorise the amount."""

    def void(self, call: Call, payment: Item) -> Decision:
        """Release what was authorised."""

    def capture(self, call: Call, payment: Item) -> Decision:
        """Capture what was authorised."""

    def refund(self, call: Call, payment: Item) -> Decision:
        """Refund what was captured."""


def account_key(account: str) -> str:
    """The key of an account's row."""
    return f"account#{account}"


def payment_key(call: Call) -> str:
    """The key of the saga's payment."""
    return f"payment#{call.saga_id}"


def movement(key: str, currency: str, postings: Mapping[str, int]) -> Put:
    """A movement of money: its row, with postings by account.

    Raises:
        ValueError: The postings do not sum to zero.
    """
    if sum(postings.values()):
        raise ValueError(f"movement {key} does not sum to zero: {dict(postings)}")
    return Put({"pk": f"movement#{key}", "currency": currency, "postings": dict(postings)})


class LedgerGateway:
    """Money within this service's table."""

    def authorise(self, call: Call, account: Item, amount: Money) -> Decision:
        """Move the amount from the account's available to its held."""
        name, value = account["id"], amount.amount
        payment = {
            "pk": payment_key(call),
            "saga_id": call.saga_id,
            "account_id": name,
            "amount": plain(amount),
            "status": "AUTHORISED",
            "owner": call.owner,
        }
        return self._move(
            call,
            "authorise",
            payment,
            {f"{name}:available": -value, f"{name}:held": value},
            Put(payment),
            Update(
                account["pk"],
                add={"available": -value, "held": value},
                # A PUT changes `changes`, and may have given the account to another owner.
                when={
                    "available": AtLeast(value),
                    "currency": amount.currency,
                    "changes": account["changes"],
                },
            ),
        )

    def void(self, call: Call, payment: Item) -> Decision:
        """Move the amount back from held to available."""
        name, value = payment["account_id"], payment["amount"]["amount"]
        return self._turn(
            call,
            "void",
            payment,
            "VOIDED",
            {f"{name}:held": -value, f"{name}:available": value},
            {"held": -value, "available": value},
        )

    def capture(self, call: Call, payment: Item) -> Decision:
        """Move the amount from the account's held to the merchant's income."""
        name, value = payment["account_id"], payment["amount"]["amount"]
        return self._turn(
            call,
            "capture",
            payment,
            "CAPTURED",
            {f"{name}:held": -value, INCOME: value},
            {"held": -value, "balance": -value},
        )

    def refund(self, call: Call, payment: Item) -> Decision:
        """Move the amount from the merchant's income to the account's available."""
        name, value = payment["account_id"], payment["amount"]["amount"]
        return self._turn(
            call,
            "refund",
            payment,
            "REFUNDED",
            {INCOME: -value, f"{name}:available": value},
            {"available": value, "balance": value},
        )

    def _turn(
        self,
        call: Call,
        what: str,
        payment: Item,
        status: str,
        postings: Mapping[str, int],
        changes: Mapping[str, int],
    ) -> Decision:
        turn = Update(payment["pk"], put={"status": status}, when={"status": payment["status"]})
        account = Update(account_key(payment["account_id"]), add=changes)
        return self._move(call, what, payment | {"status": status}, postings, turn, account)

    def _move(
        self,
        call: Call,
        what: str,
        payment: Item,
        postings: Mapping[str, int],
        *writes: Put | Update,
    ) -> Decision:
        posted = movement(f"{call.saga_id}#{what}", payment["amount"]["currency"], postings)
        result = {
            "payment_id": payment["pk"],
            "account_id": payment["account_id"],
            "amount": payment["amount"],
            "status": payment["status"],
        }
        return Decision(result=result, writes=[*writes, posted])


GATEWAY: Gateway = LedgerGateway()


@dataclass(frozen=True, kw_only=True)
class Payer:
    """The account that pays."""

    account_id: str


@dataclass(frozen=True, kw_only=True)
class AuthoriseAsk:
    """Who pays."""

    payment: Payer


@action(
    AuthoriseAsk,
    reads=lambda call: [account_key(call.ask.payment.account_id)],
    refuses=[PaymentDeclinedError, UnknownAccountError, CurrencyMismatchError],
    keeps={
        "payment_id": "it is made from the id of the saga",
        "account_id": ADDS_UP,
        "id": ADDS_UP,
        "postings": ADDS_UP,
    },
)
def authorise(call: Call[AuthoriseAsk]) -> Decision:
    """Authorise the sum of the earlier results' prices."""
    amount = Money.total(Money.of(one["price"]) for one in call.results.values() if one)
    name, account = call.ask.payment.account_id, call.item
    if account is None or account.get("owner", call.owner) != call.owner:
        raise UnknownAccountError(f"there is no account {name}")
    if account["currency"] != amount.currency:
        raise CurrencyMismatchError(f"account {name} is in {account['currency']}")
    if account["available"] < amount.amount:
        raise PaymentDeclinedError(f"account {name} has less than {amount} available")
    return GATEWAY.authorise(call, account, amount)


@undo(reads=lambda call: [payment_key(call)])
def void(call: Call) -> Decision:
    """Release what was authorised; after a refund there is nothing left to release."""
    payment = call.item
    if payment is not None and payment["status"] == "REFUNDED":
        return Decision(result={"payment_id": payment["pk"], "status": "REFUNDED"})
    return GATEWAY.void(call, _payment(call, "AUTHORISED"))


@action(reads=lambda call: [payment_key(call)], refuses=[PaymentNotAuthorisedError])
def capture(call: Call) -> Decision:
    """Capture what was authorised: the money moves."""
    return GATEWAY.capture(call, _payment(call, "AUTHORISED"))


@undo(reads=lambda call: [payment_key(call)])
def refund(call: Call) -> Decision:
    """Refund what was captured; for a saga that captures before its pivot."""
    return GATEWAY.refund(call, _payment(call, "CAPTURED"))


def _payment(call: Call, status: str) -> Item:
    payment = call.item
    if payment is None or payment["status"] != status:
        found = payment["status"] if payment else "no payment"
        raise PaymentNotAuthorisedError(f"the payment must be {status}, got {found}")
    return payment


def show(row: Item) -> dict[str, Any]:
    """An account as the API shows it; one without an `owner` may be used by anybody."""
    shown = ("id", "currency", "balance", "available", "held", "owner")
    return {name: row[name] for name in shown if name in row}


def change(account: str, row: Item | None, body: Mapping[str, Any]) -> list[Put | Update] | None:
    """The writes that give an account another balance, and an owner.

    Args:
        account: Its id.
        row: Its current row, if it has one.
        body: `currency` and `balance`; and `owner`, without which it keeps the one that it has:
            what is somebody's never becomes everybody's by a body that is silent about it.

    Returns:
        The writes, or None where the balance is below what is held, or the currency another.
    """
    balance, currency = body["balance"], body["currency"]
    owner = {"owner": body["owner"]} if body.get("owner") else {}
    if row is None:
        fresh: Item = {"pk": account_key(account), "id": account, "currency": currency, "held": 0}
        fresh |= {"balance": balance, "available": balance, "changes": 0, **owner}
        return [Put(fresh), _funded(account, 0, currency, balance)]
    if balance < row["held"] or currency != row["currency"]:
        return None
    delta, changes = balance - row["balance"], row["changes"]
    update = Update(
        row["pk"],
        add={"balance": delta, "available": delta, "changes": 1},
        put=owner,
        when={"balance": row["balance"], "held": row["held"], "changes": changes},
    )
    return [update, _funded(account, changes + 1, currency, delta)]


def _funded(account: str, occasion: int, currency: str, amount: int) -> Put:
    postings = {f"{account}:available": amount, OUTSIDE: -amount}
    return movement(f"funding#{account}#{occasion}", currency, postings)
