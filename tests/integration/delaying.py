"""Sagas with a step that is done later, as an author writes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from recourse import Call, Decision, Moment, Put, Refusal, Saga, Step, Update, action, request_model
from recourse import undo as undo_of

DAY = 24 * 3600
STEPS = ("hold", "check_in", "settle", "thank")


@request_model
class Stay:
    """When the guest comes, if that is known."""

    arrives_at: Moment | None = None


@request_model
class StayRequest:
    """A stay."""

    stay_id: str
    stay: Stay


@dataclass(frozen=True, kw_only=True)
class Visit:
    """When the guest comes."""

    arrives_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Guest:
    """Who comes."""

    stay: Visit | None = None


class NoRoomError(Refusal):
    """There is no room."""


def _row(call: Call[Any], what: str, status: str) -> dict[str, Any]:
    return {"pk": f"{what}#{call.saga_id}", "status": status}


def _released(call: Call[Any], what: str) -> Decision:
    key = f"{what}#{call.saga_id}"
    return Decision(writes=[Update(key, put={"status": "RELEASED"}, when={"status": "HELD"})])


@action()
def hold(call: Call) -> Decision:
    """Hold a room."""
    return Decision(result={"room": 7}, writes=[Put(_row(call, "hold", "HELD"))])


@undo_of()
def release(call: Call) -> Decision:
    """Release it."""
    return _released(call, "hold")


@action(Guest, refuses=[NoRoomError])
def check_in(call: Call[Guest]) -> Decision:
    """Check the guest in, into the room that is held."""
    assert call.results["hold"] == {"room": 7}
    return Decision(result={"key": 1}, writes=[Put(_row(call, "check_in", "HELD"))])


@undo_of()
def check_out(call: Call) -> Decision:
    """Take that back."""
    return _released(call, "check_in")


@action()
def settle(call: Call) -> Decision:
    """Take the money."""
    return Decision(result={"paid": 100}, writes=[Put(_row(call, "settle", "PAID"))])


@action()
def thank(call: Call) -> Decision:
    """Thank the guest."""
    assert call.results["settle"] == {"paid": 100}
    return Decision(writes=[Put(_row(call, "thank", "SENT"))])


def staying(step: str, **later: Any) -> Saga:
    """The saga, with one of its steps done later."""
    steps = [
        Step("hold", hold, undo=release),
        Step("check_in", check_in, undo=check_out, after=["hold"]),
        Step("settle", settle, pivot=True),
        Step("thank", thank, after=["settle"]),
    ]
    return Saga(
        f"stay-{step.replace('_', '-')}",
        request=StayRequest,
        business_key="stay_id",
        deadline=3600,
        steps=[replace(one, **later) if one.name == step else one for one in steps],
    )


LATER = {step: staying(step, delay=3 * DAY) for step in STEPS}
"""The saga with each of its steps delayed, by the step."""
