"""Accounts: money on a double-entry ledger.

An account's row has what is `available` and what is `held`, and its `balance` is both together.
Money moves by movements alone: each is a row of postings that sum to zero, and what is available
and held of an account is the sum of its postings. What holds some of it keeps in `since` the moment
by which `services.holds` counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from recourse import AtLeast, Call, CurrencyMismatchError, Item, Money, Put, Refusal, Update
from services import holds

OUTSIDE = "outside"
"""The account that opening balances are posted from."""
KEEPS = dict.fromkeys(
    ("account_id", "id", "postings"),
    "an account's balance is the sum of its postings, which name it",
)
"""What stays of accounts and movements when their owner's data are erased."""


class UnknownAccountError(Refusal):
    """There is no such account, or another owner has it: a saga is not told which."""


class PaymentDeclinedError(Refusal):
    """The account has too little available."""


def account_key(account: str) -> str:
    """The key of an account's row."""
    return f"account#{account}"


def available(account: str) -> str:
    """What postings call what an account can spend."""
    return f"{account}:available"


def held(account: str) -> str:
    """What postings call what an account has set aside for a saga."""
    return f"{account}:held"


def movement(key: str, currency: str, postings: Mapping[str, int]) -> Put:
    """A movement of money: its row, with postings by account.

    Raises:
        ValueError: The postings do not sum to zero.
    """
    if sum(postings.values()):
        raise ValueError(f"movement {key} does not sum to zero: {dict(postings)}")
    return Put({"pk": f"movement#{key}", "currency": currency, "postings": dict(postings)})


def move(
    call: Call,
    what: str,
    currency: str,
    postings: Mapping[str, int],
    when: Mapping[str, Any] | None = None,
    holding: Mapping[str, holds.Change] | None = None,
) -> list[Put | Update]:
    """A saga's movement of money, and what it changes in the rows of its accounts.

    Args:
        call: The call.
        what: What is done, once in a saga.
        currency: The currency.
        postings: By `available` and `held` of accounts; by a name alone where it has no row.
        when: What must hold of each of the accounts.
        holding: The hold that begins or ends with it, by account.
    """
    changes: dict[str, Counter[str]] = {}
    for place, amount in postings.items():
        account, _, part = place.rpartition(":")
        if account:
            changes.setdefault(account, Counter()).update({part: amount, "balance": amount})
    writes: list[Put | Update] = [movement(f"{call.saga_id}#{what}", currency, postings)]
    for one, adds in changes.items():
        also = (holding or {}).get(one, holds.Change())
        writes.append(
            Update(
                account_key(one),
                add={**adds, **also.add},
                when={**(when or {}), **also.when},
                remove=also.remove,
            )
        )
    return writes


def hold(call: Call, what: str, amount: Money, row: Item) -> list[Put | Update]:
    """Hold an amount on the account that is the call's item, for its owner.

    Args:
        call: The call.
        what: What is done, once in a saga.
        amount: How much.
        row: The new row of what holds it, with its `account_id`.

    Raises:
        UnknownAccountError: It is not there, or is another owner's.
        CurrencyMismatchError: It is in another currency.
        PaymentDeclinedError: It has too little available.
    """
    account, value, name = call.item, amount.amount, row["account_id"]
    if account is None or account.get("owner", call.owner) != call.owner:
        raise UnknownAccountError(f"there is no account {name}")
    must_be_in(account, amount)
    if account["available"] < value:
        raise PaymentDeclinedError(f"account {name} has less than {amount} available")
    since, begun = holds.begin(account, value)
    moved = move(
        call,
        what,
        amount.currency,
        {available(name): -value, held(name): value},
        # A PUT changes `changes`, and may have given the account to another owner.
        when={
            "available": AtLeast(value),
            "currency": amount.currency,
            "changes": account["changes"],
        },
        holding={name: begun},
    )
    return [Put(row | {"since": since}), *moved]


def ended(row: Item) -> dict[str, holds.Change]:
    """The end of the hold of a row, by its account; for `move`."""
    return {row["account_id"]: holds.end(row.get("since"))}


def must_be_in(account: Item, amount: Money) -> None:
    """Check that an account is in the currency of an amount.

    Raises:
        CurrencyMismatchError: It is not.
    """
    if account["currency"] != amount.currency:
        raise CurrencyMismatchError(f"account {account['id']} is in {account['currency']}")


def show(row: Item) -> dict[str, Any]:
    """An account as the API shows it; one without an `owner` may be used by anybody."""
    shown = ("id", "currency", "balance", "available", "held", "owner")
    return {name: row[name] for name in shown if name in row} | holds.show(row)


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
