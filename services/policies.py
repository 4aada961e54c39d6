"""Policies: which part of a price an insurer pays, and who decides that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recourse import Item, Money, Put, Refusal, Update

USUAL = {"covers": {"percent": 80}, "decision": "auto"}
"""What a policy says whose body is silent about it."""


class UnknownPolicyError(Refusal):
    """There is no such policy."""


def policy_key(policy: str) -> str:
    """The key of a policy's row."""
    return f"policy#{policy}"


def share(policy: Item, price: Money) -> Money:
    """The part of a price that a policy covers, in whole minor units, rounded down."""
    return Money(price.amount * policy["covers"]["percent"] // 100, price.currency)


def show(row: Item) -> dict[str, Any]:
    """A policy as the API shows it; without an `insurer`, any may decide."""
    shown = ("id", "covers", "decision", "insurer")
    return {name: row[name] for name in shown if name in row}


def change(policy: str, row: Item | None, body: Mapping[str, Any]) -> list[Put | Update]:
    """The writes that make a policy say what a body says.

    Args:
        policy: Its id.
        row: Its current row, if it has one.
        body: `covers` and `decision`, as usual where it is silent; and `insurer`, without which it
            keeps the one that it has: no silence lets others decide.
    """
    said = {name: body.get(name) or usual for name, usual in USUAL.items()}
    said |= {"insurer": body["insurer"]} if body.get("insurer") else {}
    if row is None:
        return [Put({"pk": policy_key(policy), "id": policy, **said})]
    return [Update(row["pk"], put=said)]
