"""Counted things: a quantity of something, held for a saga, then confirmed or released.

For each thing `total = available + held + confirmed` always holds. A hold is a separate row, keyed
by saga and step, whose `things` has the quantity held of each thing, and whose `since` the moment
by which `services.holds` counts it. It is a semantic lock (HELD) that becomes a booking (CONFIRMED)
or is released (RELEASED), and is never deleted.

A booking is cancelled by another saga, which has a row of its own, the cancellation: it is HELD
and locks the booking (CANCELLING). Then it is CONFIRMED, with which the booking is CANCELLED and
what it had is available again; or RELEASED, and the booking is CONFIRMED as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

from recourse import AtLeast, Call, Decision, Item, Money, Put, Refusal, Update
from services import holds

KEEPS = {
    "booking_id": "it is made from the id of the saga",
    "things": "stock adds up by it, also where a hold becomes a booking late",
    "since": "who holds what is counted by it, the same",
}
"""The text of a hold that stays when its owner's data are erased."""


class Held(TypedDict):
    """What a step that holds some of a thing returns, at the least."""

    booking_id: str
    quantity: int
    price: Any


class NotBookedError(Refusal):
    """There is no such booking, or it is cancelled, or being cancelled by another saga."""


@dataclass(frozen=True, kw_only=True)
class Booking:
    """A booking, by its id."""

    booking_id: str


def thing_key(kind: str, thing: str) -> str:
    """The key of a counted thing."""
    return f"{kind}#{thing}"


def booking_key(call: Call) -> str:
    """The key of the hold of a saga's step."""
    return f"booking#{call.saga_id}#{call.step}"


def hold(
    call: Call,
    kind: str,
    thing: str,
    quantity: int,
    *,
    times: int = 1,
    unknown: type[Refusal],
    scarce: type[Refusal],
    documents: Mapping[str, str] | None = None,
) -> Decision:
    """Hold some of a thing.

    Args:
        call: The call, with the thing's row as its item.
        kind: The kind of thing, such as `flight`.
        thing: Its id.
        quantity: How many to hold.
        times: An additional factor of the price: nights, days.
        unknown: The error if there is no such thing.
        scarce: The error if too few are available.
        documents: The names of the owner's documents for the booking, by their kind.
    """
    part = reserve(call.item, kind, thing, quantity, times=times, unknown=unknown, scarce=scarce)
    result = {"booking_id": booking_key(call), f"{kind}_id": thing, "quantity": quantity}
    booking = book(call, {thing_key(kind, thing): part})
    if documents:
        booking = Put(booking.item | {"documents": dict(documents)})
    return Decision(result=result | {"price": part.price}, writes=[part.held, booking])


class Part(NamedTuple):
    """What a step's hold has of one thing.

    Attributes:
        quantity: How many.
        price: What they cost.
        held: The change of the thing's row.
        since: The moment by which `services.holds` counts it.
    """

    quantity: int
    price: Money
    held: Update
    since: int | None


def reserve(
    row: Item | None,
    kind: str,
    thing: str,
    quantity: int,
    *,
    times: int = 1,
    unknown: type[Refusal],
    scarce: type[Refusal],
) -> Part:
    """Reserve some of one thing, as a part of a step's hold; arguments as for `hold`."""
    if row is None:
        raise unknown(f"there is no {kind} {thing}")
    if row["available"] < quantity:
        raise scarce(f"{kind} {thing} has fewer than {quantity} available")
    since, begun = holds.begin(row, quantity)
    held = Update(
        row["pk"],
        add={"available": -quantity, "held": quantity, **begun.add},
        when={"available": AtLeast(quantity), "price": row["price"], **begun.when},
        remove=begun.remove,
    )
    return Part(quantity, Money.of(row["price"]) * quantity * times, held, since)


def book(call: Call, parts: Mapping[str, Part]) -> Put:
    """The row of a step's hold, of its parts by the thing's key."""
    return Put(
        {
            "pk": booking_key(call),
            "saga_id": call.saga_id,
            "step": call.step,
            "things": {thing: part.quantity for thing, part in parts.items()},
            "since": {thing: part.since for thing, part in parts.items()},
            "price": Money.total(part.price for part in parts.values()),
            "status": "HELD",
            "owner": call.owner,
        }
    )


def release(call: Call) -> Decision:
    """Release the step's hold, which is the call's item."""
    return _turn(call, "RELEASED", "available")


def confirm(call: Call) -> Decision:
    """Turn the step's hold, which is the call's item, into a booking.

    Another saga may be cancelling it by now, or have done so: that has confirmed it first.
    """
    booking = call.item
    if booking and booking["status"] in ("CONFIRMED", "CANCELLING", "CANCELLED"):
        return Decision(result={"booking_id": booking["pk"], "status": booking["status"]})
    return _turn(call, "CONFIRMED", "confirmed")


def _turn(call: Call, status: str, gains: str) -> Decision:
    booking = call.item
    if booking is None:
        raise LookupError(f"step {call.step!r} has acted but has no booking")
    turned = Update(booking["pk"], put={"status": status}, when={"status": "HELD"})
    moved = _moved(booking, "held", gains)
    return Decision(result={"booking_id": booking["pk"], "status": status}, writes=[turned, *moved])


def _moved(row: Item, loses: str, gains: str) -> list[Update]:
    since = row.get("since", {}) if loses == "held" else {}
    return [
        Update(
            thing,
            add={loses: -quantity, gains: quantity, **holds.end(since.get(thing)).add},
            when={loses: AtLeast(quantity)},
        )
        for thing, quantity in row["things"].items()
    ]


def cancellation_key(call: Call) -> str:
    """The key of the cancellation of a saga's step."""
    return f"cancellation#{call.saga_id}#{call.step}"


def cancel(call: Call, booking_id: str) -> Decision:
    """Lock a booking, which is the call's first item, to be cancelled.

    What is booked stays so until the saga's pivot has acted: else somebody else could have it by
    the time that the saga is undone. A hold that is not confirmed yet is confirmed with it.

    Raises:
        NotBookedError: There is nothing to cancel.
    """
    booking = call.item
    if booking is None or booking["status"] not in ("HELD", "CONFIRMED"):
        found = booking["status"] if booking else "no booking"
        raise NotBookedError(f"the booking must be HELD or CONFIRMED, got {found}")
    cancellation = {
        "pk": cancellation_key(call),
        "saga_id": call.saga_id,
        "step": call.step,
        "booking_id": booking_id,
        "things": booking["things"],
        "status": "HELD",
        "owner": call.owner,
    }
    locked = Update(
        booking_id,
        put={"status": "CANCELLING", "reversed_by": call.saga_id},
        when={"status": booking["status"]},
    )
    confirmed = _moved(booking, "held", "confirmed") if booking["status"] == "HELD" else []
    result = {"booking_id": booking_id, "quantity": sum(booking["things"].values())}
    return Decision(result=result, writes=[locked, Put(cancellation), *confirmed])


def reinstate(call: Call) -> Decision:
    """Unlock the booking of the step's cancellation, which is the call's item."""
    return _end(call, "RELEASED", {"status": "CONFIRMED", "reversed_by": None})


def complete(call: Call) -> Decision:
    """Cancel the booking of the step's cancellation, which is the call's item."""
    return _end(call, "CONFIRMED", {"status": "CANCELLED"}, gains="available")


def _end(call: Call, status: str, booking: Mapping[str, Any], gains: str = "") -> Decision:
    row = call.item
    if row is None:
        raise LookupError(f"step {call.step!r} has acted but has no cancellation")
    turned = Update(row["pk"], put={"status": status}, when={"status": "HELD"})
    locked = {"status": "CANCELLING", "reversed_by": call.saga_id}
    unlocked = Update(row["booking_id"], put=booking, when=locked)
    moved = _moved(row, "confirmed", gains) if gains else []
    return Decision(
        result={"booking_id": row["booking_id"], "status": booking["status"]},
        writes=[turned, unlocked, *moved],
    )


def show(row: Item) -> dict[str, Any]:
    """A thing as the API shows it."""
    names = ("id", "total", "available", "held", "confirmed", "price")
    return {name: row[name] for name in names} | holds.show(row)


def change(
    kind: str, thing: str, row: Item | None, body: Mapping[str, Any]
) -> list[Put | Update] | None:
    """The writes that give a thing another total and price.

    Args:
        kind: The kind of thing.
        thing: Its id.
        row: Its current row, if it has one.
        body: `total` and `price`.

    Returns:
        The writes, or None if the total is below what is held and confirmed.
    """
    if row is None:
        fresh = {"pk": thing_key(kind, thing), "id": thing, "held": 0, "confirmed": 0}
        counts = {"total": body["total"], "available": body["total"]}
        return [Put(fresh | counts | {"price": dict(body["price"])})]
    available = body["total"] - row["held"] - row["confirmed"]
    if available < 0:
        return None
    changed = {"total": body["total"], "available": available, "price": dict(body["price"])}
    when = {"held": row["held"], "confirmed": row["confirmed"]}
    return [Update(row["pk"], put=changed, when=when)]
