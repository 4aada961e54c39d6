"""Flights: seats, counted and scarce."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recourse import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownFlightError(Refusal):
    """There is no such flight."""


class SeatUnavailableError(Refusal):
    """Fewer seats are available than are asked for."""


class FlightDepartedError(Refusal):
    """The flight has departed: its seats are not taken back."""


class Held(counted.Held):
    """What holding seats returns."""

    flight_id: str


@dataclass(frozen=True, kw_only=True)
class Seats:
    """Seats on a flight."""

    id: str
    seats: int


@dataclass(frozen=True, kw_only=True)
class HoldAsk:
    """The seats to hold, and the names of the traveller's documents, by their kind."""

    flight: Seats
    documents: Mapping[str, str] | None = None


@action(
    HoldAsk,
    reads=lambda call: [counted.thing_key("flight", call.ask.flight.id)],
    refuses=[SeatUnavailableError, UnknownFlightError],
    keeps=counted.KEEPS | {"flight_id": "which flight it was, as stock is counted"},
)
def hold(call: Call[HoldAsk]) -> Decision[Held]:
    """Hold seats on a flight; the price is per seat.

    The booking names the traveller's documents, for the check-in; the API has verified that they
    exist.
    """
    return counted.hold(
        call,
        "flight",
        call.ask.flight.id,
        call.ask.flight.seats,
        unknown=UnknownFlightError,
        scarce=SeatUnavailableError,
        documents=call.ask.documents,
    )


@undo(reads=lambda call: [counted.booking_key(call)])
def release(call: Call) -> Decision:
    """Release the seats."""
    return counted.release(call)


@confirm(reads=lambda call: [counted.booking_key(call)])
def book(call: Call) -> Decision:
    """Turn the hold into a booking."""
    return counted.confirm(call)


@dataclass(frozen=True, kw_only=True)
class Booking(counted.Booking):
    """A booking of seats, and the flight."""

    flight_id: str


@dataclass(frozen=True, kw_only=True)
class CancelAsk:
    """The booking to cancel."""

    flight: Booking


@action(
    CancelAsk,
    reads=lambda call: [
        call.ask.flight.booking_id,
        counted.thing_key("flight", call.ask.flight.flight_id),
    ],
    refuses=[counted.NotBookedError, FlightDepartedError],
    keeps=counted.KEEPS,
)
def cancel(call: Call[CancelAsk]) -> Decision:
    """Lock a booking to be cancelled, if that was asked for before the flight departed.

    What counts is when the saga started, so a try that comes late decides as the first one.
    """
    departs_at = (call.items[1] or {}).get("departs_at")
    if departs_at and datetime.fromisoformat(call.started_at) >= datetime.fromisoformat(departs_at):
        raise FlightDepartedError(f"flight {call.ask.flight.flight_id} departed at {departs_at}")
    return counted.cancel(call, call.ask.flight.booking_id)


@undo(reads=lambda call: [counted.cancellation_key(call)])
def reinstate(call: Call) -> Decision:
    """Unlock it."""
    return counted.reinstate(call)


@confirm(reads=lambda call: [counted.cancellation_key(call)])
def complete(call: Call) -> Decision:
    """Cancel the booking."""
    return counted.complete(call)
