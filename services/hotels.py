"""Hotels: rooms, counted and scarce."""

from recourse.step import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownHotelError(Refusal):
    """There is no such hotel."""


class RoomUnavailableError(Refusal):
    """Fewer rooms are available than are asked for."""


@action(
    reads=lambda call: [counted.thing_key("hotel", call.request["hotel"]["id"])],
    refuses=[RoomUnavailableError, UnknownHotelError],
)
def hold(call: Call) -> Decision:
    """Hold rooms of a hotel; the price is per room and night."""
    ask = call.request["hotel"]
    return counted.hold(
        call,
        "hotel",
        ask["id"],
        ask["rooms"],
        times=ask["nights"],
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
