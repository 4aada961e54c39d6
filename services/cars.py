"""Cars: one unit of a class of car, for some days."""

from dataclasses import dataclass

from recourse import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownCarError(Refusal):
    """There is no such class of car."""


class CarUnavailableError(Refusal):
    """Fewer cars are available than are asked for."""


@dataclass(frozen=True, kw_only=True)
class Car:
    """A car of a class, for some days."""

    id: str
    days: int


@dataclass(frozen=True, kw_only=True)
class HoldAsk:
    """The car to hold."""

    car: Car


@action(
    HoldAsk,
    reads=lambda call: [counted.thing_key("car", call.ask.car.id)],
    refuses=[CarUnavailableError, UnknownCarError],
    keeps=counted.KEEPS | {"car_id": "which class of car it was, as stock is counted"},
)
def hold(call: Call[HoldAsk]) -> Decision:
    """Hold a car; the price is per day."""
    return counted.hold(
        call,
        "car",
        call.ask.car.id,
        1,
        times=call.ask.car.days,
        unknown=UnknownCarError,
        scarce=CarUnavailableError,
    )


@undo(reads=lambda call: [counted.booking_key(call)])
def release(call: Call) -> Decision:
    """Release the car."""
    return counted.release(call)


@confirm(reads=lambda call: [counted.booking_key(call)])
def book(call: Call) -> Decision:
    """Turn the hold into a booking."""
    return counted.confirm(call)
