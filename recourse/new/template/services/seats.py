"""Seats in workshops: held, and released if they are not paid for."""

from dataclasses import dataclass

from recourse import AtLeast, Call, Decision, Money, Put, Refusal, Update, action, undo


@dataclass(frozen=True)
class Workshop:
    """How many may come, and what a seat costs."""

    seats: int
    price: Money


WORKSHOPS = {"pottery": Workshop(12, Money(4500, "EUR"))}


class UnknownWorkshopError(Refusal):
    """There is no such workshop."""


class SoldOutError(Refusal):
    """Fewer seats are free than are asked for."""


@dataclass(frozen=True, kw_only=True)
class HoldAsk:
    """Which seats to hold."""

    workshop: str
    seats: int


def workshop_key(name: str) -> str:
    """The key of the row that counts a workshop's free seats."""
    return f"workshop#{name}"


def hold_key(call: Call) -> str:
    """The key of the saga's hold."""
    return f"hold#{call.saga_id}"


@action(
    HoldAsk,
    reads=lambda call: [workshop_key(call.ask.workshop)],
    refuses=[UnknownWorkshopError, SoldOutError],
)
def hold(call: Call[HoldAsk]) -> Decision:
    """Hold seats; the first who asks opens the workshop."""
    ask, row = call.ask, call.item
    workshop = WORKSHOPS.get(ask.workshop)
    if workshop is None:
        raise UnknownWorkshopError(f"there is no workshop {ask.workshop!r}")
    free = workshop.seats if row is None else row["free"]
    if free < ask.seats:
        raise SoldOutError(f"{free} seats are free, {ask.seats} are asked for")
    key = workshop_key(ask.workshop)
    taken: Put | Update = (
        Put({"pk": key, "free": free - ask.seats})
        if row is None
        else Update(key, add={"free": -ask.seats}, when={"free": AtLeast(ask.seats)})
    )
    held = {"pk": hold_key(call), "workshop": key, "seats": ask.seats, "status": "HELD"}
    return Decision(result={"price": workshop.price * ask.seats}, writes=[taken, Put(held)])


@undo(reads=lambda call: [hold_key(call)])
def release(call: Call) -> Decision:
    """Release them. The runtime calls it only if `hold` has acted, and once."""
    held = call.item
    assert held is not None
    return Decision(
        writes=[
            Update(held["pk"], put={"status": "RELEASED"}, when={"status": "HELD"}),
            Update(held["workshop"], add={"free": held["seats"]}),
        ]
    )
