"""Prices: what the earlier results of a saga cost, and what is left of it to pay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recourse import Money

Results = Mapping[str, Any]
"""The results of earlier steps by name; None where a step was left out."""


def total(results: Results) -> Money:
    """The sum of the results' prices.

    Raises:
        CurrencyMismatchError: There are several currencies, or no prices.
    """
    return Money.total(Money.of(one["price"]) for one in results.values() if _has(one, "price"))


def covered(results: Results) -> dict[str, Money]:
    """What a policy pays of it, by the step whose result says so."""
    return {step: Money.of(one["covered"]) for step, one in results.items() if _has(one, "covered")}


def due(results: Results) -> Money:
    """What is left to pay: the sum of the prices less what is covered.

    Raises:
        CurrencyMismatchError: There are several currencies, or no prices.
    """
    left = total(results)
    for part in covered(results).values():
        left -= part
    return left


def _has(result: Mapping[str, Any] | None, name: str) -> bool:
    return result is not None and name in result
