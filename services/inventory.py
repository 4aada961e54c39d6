"""Inventory: items in stock by their sku, reserved for all lines of an order or for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recourse import Call, CurrencyMismatchError, Decision, Refusal, action, confirm, undo
from recourse.declare.step import MOST_WRITES
from services import counted

MOST_SKUS = MOST_WRITES - 1
"""The most different skus of an order: each is one write, and the booking is one more.

Lines of the same sku are added up first, because a transaction may write a row only once; so this
bounds skus, and an order may have more lines.
"""


class UnknownSkuError(Refusal):
    """There is no item of this sku."""


class StockUnavailableError(Refusal):
    """Fewer items of a sku are available than all lines together ask for."""


class TooManyLinesError(Refusal):
    """The order has more different skus than can be reserved in one transaction."""


class Reserved(counted.Held):
    """What reserving returns."""

    lines: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A quantity of one sku."""

    sku: str
    quantity: int


@dataclass(frozen=True, kw_only=True)
class ReserveAsk:
    """The lines of an order; several may name the same sku."""

    lines: Sequence[Line]


@action(
    ReserveAsk,
    reads=lambda call: [counted.thing_key("item", sku) for sku in _quantities(call)],
    refuses=[StockUnavailableError, UnknownSkuError, TooManyLinesError, CurrencyMismatchError],
    keeps=counted.KEEPS | {"sku": "which item it was, as stock is counted"},
)
def reserve(call: Call[ReserveAsk]) -> Decision[Reserved]:
    """Reserve every line of an order; the price is per item.

    The result has a line for each sku, for the invoice, and the sum of their prices in `price`.
    """
    quantities = _quantities(call)
    parts = {
        sku: counted.reserve(
            row, "item", sku, quantity, unknown=UnknownSkuError, scarce=StockUnavailableError
        )
        for (sku, quantity), row in zip(quantities.items(), call.items, strict=True)
    }
    things = {counted.thing_key("item", sku): part for sku, part in parts.items()}
    booking = counted.book(call, things)
    return Decision(
        result={
            "booking_id": counted.booking_key(call),
            "quantity": sum(quantities.values()),
            "price": booking.item["price"],
            "lines": [
                {"sku": sku, "quantity": part.quantity, "price": part.price}
                for sku, part in parts.items()
            ],
        },
        writes=[*(part.held for part in parts.values()), booking],
    )


@undo(reads=lambda call: [counted.booking_key(call)])
def release(call: Call) -> Decision:
    """Release every line."""
    return counted.release(call)


@confirm(reads=lambda call: [counted.booking_key(call)])
def book(call: Call) -> Decision:
    """Turn the reservation into a booking."""
    return counted.confirm(call)


@dataclass(frozen=True, kw_only=True)
class CancelAsk:
    """The booking to cancel."""

    inventory: counted.Booking


@action(
    CancelAsk,
    reads=lambda call: [call.ask.inventory.booking_id],
    refuses=[counted.NotBookedError],
    keeps=counted.KEEPS,
)
def cancel(call: Call[CancelAsk]) -> Decision:
    """Lock a booking to be cancelled."""
    return counted.cancel(call, call.ask.inventory.booking_id)


@undo(reads=lambda call: [counted.cancellation_key(call)])
def reinstate(call: Call) -> Decision:
    """Unlock it."""
    return counted.reinstate(call)


@confirm(reads=lambda call: [counted.cancellation_key(call)])
def complete(call: Call) -> Decision:
    """Cancel the booking."""
    return counted.complete(call)


def _quantities(call: Call[ReserveAsk]) -> dict[str, int]:
    """How many of each sku all lines together ask for.

    Raises:
        TooManyLinesError: They do not fit into one transaction.
    """
    found: dict[str, int] = {}
    for line in call.ask.lines:
        found[line.sku] = found.get(line.sku, 0) + line.quantity
    if len(found) > MOST_SKUS:
        raise TooManyLinesError(
            f"an order must have at most {MOST_SKUS} different skus, got {len(found)}"
        )
    return found
