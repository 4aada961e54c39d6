"""Flights: seats, counted and scarce."""

from recourse.step import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownFlightError(Refusal):
    """There is no such flight."""


class SeatUnavailableError(Refusal):
    """Fewer seats are available than are asked for."""


@action(
    reads=lambda call: [counted.thing_key("flight", call.request["flight"]["id"])],
    refuses=[SeatUnavailableError, UnknownFlightError],
)
def hold(call: Call) -> Decision:
    """Hold seats on a flight; the price is per seat.

    The booking says by which documents the traveller goes, for whoever checks them in; the API has
    seen that they are there.
    """
    ask = call.request["flight"]
    return counted.hold(
        call,
        "flight",
        ask["id"],
        ask["seats"],
        unknown=UnknownFlightError,
        scarce=SeatUnavailableError,
        documents=call.request.get("documents"),
    )


@undo(reads=lambda call: [counted.booking_key(call)])
def release(call: Call) -> Decision:
    """Release the seats."""
    return counted.release(call)


@confirm(reads=lambda call: [counted.booking_key(call)])
def book(call: Call) -> Decision:
    """Turn the hold into a booking."""
    return counted.confirm(call)
