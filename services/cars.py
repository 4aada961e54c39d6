"""Cars: one unit of a class of car, for some days."""

from recourse.step import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownCarError(Refusal):
    """There is no such class of car."""


class CarUnavailableError(Refusal):
    """Fewer cars are available than are asked for."""


@action(
    reads=lambda call: [counted.thing_key("car", call.request["car"]["id"])],
    refuses=[CarUnavailableError, UnknownCarError],
)
def hold(call: Call) -> Decision:
    """Hold a car; the price is per day."""
    ask = call.request["car"]
    return counted.hold(
        call,
        "car",
        ask["id"],
        1,
        times=ask["days"],
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
