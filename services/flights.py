"""Flights: seats, counted and scarce."""

from collections.abc import Mapping
from dataclasses import dataclass

from recourse import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownFlightError(Refusal):
    """There is no such flight."""


class SeatUnavailableError(Refusal):
    """Fewer seats are available than are asked for."""


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
def hold(call: Call[HoldAsk]) -> Decision:
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
