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
def hold(call: Call[HoldAsk]) -> Decision:
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
