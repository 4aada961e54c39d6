"""Appointments: slots of a practice, counted and scarce."""

from dataclasses import dataclass

from recourse import Call, Decision, Refusal, action, confirm, undo
from services import counted


class UnknownSlotError(Refusal):
    """There is no such slot."""


class SlotUnavailableError(Refusal):
    """The slot has no place left."""


@dataclass(frozen=True, kw_only=True)
class HoldAsk:
    """The slot to hold a place in."""

    slot_id: str


@action(
    HoldAsk,
    reads=lambda call: [counted.thing_key("slot", call.ask.slot_id)],
    refuses=[SlotUnavailableError, UnknownSlotError],
    keeps=counted.KEEPS | {"slot_id": "which slot it was, as places are counted"},
)
def hold(call: Call[HoldAsk]) -> Decision:
    """Hold a place in a slot; the price is the slot's."""
    return counted.hold(
        call,
        "slot",
        call.ask.slot_id,
        1,
        unknown=UnknownSlotError,
        scarce=SlotUnavailableError,
    )


@undo(reads=lambda call: [counted.booking_key(call)])
def release(call: Call) -> Decision:
    """Release the place."""
    return counted.release(call)


@confirm(reads=lambda call: [counted.booking_key(call)])
def book(call: Call) -> Decision:
    """Turn the hold into an appointment."""
    return counted.confirm(call)
