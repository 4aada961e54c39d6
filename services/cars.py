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
def hold(call: Call[HoldAsk]) -> Decision[counted.Held]:
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


@dataclass(frozen=True, kw_only=True)
class CancelAsk:
    """The booking to cancel."""

    car: counted.Booking


@action(
    CancelAsk,
    reads=lambda call: [call.ask.car.booking_id],
    refuses=[counted.NotBookedError],
    keeps=counted.KEEPS,
)
def cancel(call: Call[CancelAsk]) -> Decision:
    """Lock a booking to be cancelled."""
    return counted.cancel(call, call.ask.car.booking_id)


@undo(reads=lambda call: [counted.cancellation_key(call)])
def reinstate(call: Call) -> Decision:
    """Unlock it."""
    return counted.reinstate(call)


@confirm(reads=lambda call: [counted.cancellation_key(call)])
def complete(call: Call) -> Decision:
    """Cancel the booking."""
    return counted.complete(call)
