"""Hotels: rooms, counted and scarce."""

from dataclasses import dataclass

from recourse import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownHotelError(Refusal):
    """There is no such hotel."""


class RoomUnavailableError(Refusal):
    """Fewer rooms are available than are asked for."""


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """Rooms of a hotel, for some nights."""

    id: str
    rooms: int
    nights: int


@dataclass(frozen=True, kw_only=True)
class HoldAsk:
    """The rooms to hold."""

    hotel: Rooms


@action(
    HoldAsk,
    reads=lambda call: [counted.thing_key("hotel", call.ask.hotel.id)],
    refuses=[RoomUnavailableError, UnknownHotelError],
    keeps=counted.KEEPS | {"hotel_id": "which hotel it was, as stock is counted"},
)
def hold(call: Call[HoldAsk]) -> Decision[counted.Held]:
    """Hold rooms of a hotel; the price is per room and night."""
    return counted.hold(
        call,
        "hotel",
        call.ask.hotel.id,
        call.ask.hotel.rooms,
        times=call.ask.hotel.nights,
        unknown=UnknownHotelError,
        scarce=RoomUnavailableError,
    )


@undo(reads=lambda call: [counted.booking_key(call)])
def release(call: Call) -> Decision:
    """Release the rooms."""
    return counted.release(call)


@confirm(reads=lambda call: [counted.booking_key(call)])
def book(call: Call) -> Decision:
    """Turn the hold into a booking."""
    return counted.confirm(call)


@dataclass(frozen=True, kw_only=True)
class CancelAsk:
    """The booking to cancel."""

    hotel: counted.Booking


@action(
    CancelAsk,
    reads=lambda call: [call.ask.hotel.booking_id],
    refuses=[counted.NotBookedError],
    keeps=counted.KEEPS,
)
def cancel(call: Call[CancelAsk]) -> Decision:
    """Lock a booking to be cancelled."""
    return counted.cancel(call, call.ask.hotel.booking_id)


@undo(reads=lambda call: [counted.cancellation_key(call)])
def reinstate(call: Call) -> Decision:
    """Unlock it."""
    return counted.reinstate(call)


@confirm(reads=lambda call: [counted.cancellation_key(call)])
def complete(call: Call) -> Decision:
    """Cancel the booking."""
    return counted.complete(call)
