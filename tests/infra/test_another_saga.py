"""A saga that is declared is deployed: the stacks know none by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from recourse.declare.declaration import Step
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.step import Call, Decision, action, undo
from recourse.declare.step_checks import LONGEST_TIMEOUT
from recourse.errors import DeclarationError
from services import flights, payments
from statemachines import SAGAS
from statemachines.travel_booking import FlightAsk
from tests.infra.assembly import synthesise

pytestmark = pytest.mark.xdist_group("infra")


@request_model
class SeatRequest:
    """A seat, and nothing else."""

    seat_id: str
    flight: FlightAsk
    payment: str


@action()
def survey(call: Call) -> Decision:
    """Takes as long as a step may."""
    return Decision()


@undo()
def forget(call: Call) -> Decision:
    return Decision()


def test_another_saga_needs_no_edit_of_the_infrastructure(tmp_path: Path) -> None:
    seat = Saga(
        "seat-only",
        request=SeatRequest,
        business_key="seat_id",
        steps=[
            Step(
                "flight",
                flights.hold,
                undo=flights.release,
                confirm=flights.book,
                takes=["flight"],
            ),
            Step("survey", survey, undo=forget, timeout=LONGEST_TIMEOUT),
            Step("capture", payments.capture, pivot=True),
        ],
    )
    found = synthesise(tmp_path, {}, SAGAS | {seat.name: seat})
    assert found.findings() == []
    found.one("AWS::StepFunctions::StateMachine", "SeatOnly/Machine")
    assert all(f.properties["Timeout"] <= 900 for f in found.every("AWS::Lambda::Function"))
    machines = {name for name in found.parameters if name.startswith("machines/")}
    assert machines == {f"machines/{name}" for name in (*SAGAS, "seat-only")}
    confirms = found.one(
        "AWS::SNS::Subscription",
        next(
            one.name
            for one in found.every("AWS::SNS::Subscription")
            if one.name.startswith("FlightsConfirmEvents/")
        ),
    )
    assert "recourse.seat-only.capture.done" in confirms.properties["FilterPolicy"]["type"]


def test_one_function_cannot_serve_an_action_in_two_ways(tmp_path: Path) -> None:
    other = Saga(
        "seat-only",
        request=SeatRequest,
        business_key="seat_id",
        steps=[
            Step("seat", flights.hold, undo=flights.release, takes=["flight"], timeout=60),
            Step("capture", payments.capture, pivot=True),
        ],
    )
    with pytest.raises(DeclarationError, match=r"'seat' of 'seat-only'.*FlightsHold serves step"):
        synthesise(tmp_path, {}, SAGAS | {other.name: other})
