"""Shapes that no saga in the list has: groups after steps and the pivot, steps left out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest

from recourse.declare.declaration import Coordination, Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from services import cars, flights, hotels, invoices, payments
from statemachines.fields import Payer
from statemachines.travel_booking import CarAsk, FlightAsk, HotelAsk
from tests.ground import Ground, ground
from tests.integration import large
from tests.integration.test_every_saga import must_be_as_told
from tests.integration.trips import TRIP, stock

keys = itertools.count()


@request_model
class TourRequest:
    """A flight there, if any; then a room and perhaps a car."""

    tour_id: str
    hotel: HotelAsk
    payment: Payer
    flight: FlightAsk | None = None
    car: CarAsk | None = None


TOUR = Saga(
    "tour",
    request=TourRequest,
    business_key="tour_id",
    coordination="choreography",
    steps=[
        Step("flight", flights.hold, undo=flights.release, confirm=flights.book, takes=["flight"]),
        Together(
            Step("hotel", hotels.hold, undo=hotels.release, confirm=hotels.book, takes=["hotel"]),
            Step("car", cars.hold, undo=cars.release, confirm=cars.book, takes=["car"]),
        ),
        Step(
            "payment",
            payments.authorise,
            undo=payments.void,
            takes=["payment"],
            after=["flight", "hotel", "car"],
        ),
        Step("capture", payments.capture, pivot=True),
        Step("invoice", invoices.issue, after=["flight", "hotel", "car"]),
    ],
)


@request_model
class PartyRequest:
    """What each step is asked for."""

    party_id: str
    hold: dict[str, Any]
    decide: dict[str, Any]
    cake: dict[str, Any]
    music: dict[str, Any]


PARTY = Saga(
    "party",
    request=PartyRequest,
    business_key="party_id",
    steps=[
        Step("hold", large.middle, undo=large.take_back, takes=["hold"]),
        Step("decide", large.after, pivot=True, takes=["decide"]),
        Together(*(Step(name, large.after, takes=[name]) for name in ("cake", "music"))),
    ],
)


@pytest.fixture(scope="module")
def shapes() -> Iterator[Ground]:
    with ground({saga.name: saga for saga in (PARTY, TOUR)}) as made:
        stock(made)
        yield made


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("stuck", ["cake", "music"])
def test_a_step_of_a_group_after_the_pivot_is_parked_under_its_own_name(
    shapes: Ground, stuck: str, coordination: Coordination
) -> None:
    well = shapes.mishap

    def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
        if task.get("step") == stuck:
            raise TypeError("a mistake")
        return run()

    shapes.mishap = mishap
    body = {"party_id": "p", **{step.name: {} for step in PARTY.all}}
    saga_id = shapes.start("party", body, key=f"{next(keys)}", coordination=coordination)
    shapes.settle()
    shown = {step["name"]: step["error"] for step in shapes.view(saga_id)["steps"]}
    assert shown == dict.fromkeys(shown, None) | {stuck: "TypeError"}
    shapes.mishap = well
    shapes.resolve(saga_id, stuck, skip=False)
    shapes.settle()
    assert must_be_as_told(shapes, PARTY, saga_id) == "SUCCEEDED"


@pytest.mark.parametrize("without", [(), ("car",), ("flight",), ("flight", "car")])
@pytest.mark.parametrize("fault", [None, "hotel", "car", "payment", "capture"])
@pytest.mark.parametrize("seed", range(3))
def test_groups_that_follow_steps_and_steps_left_out(
    shapes: Ground, without: tuple[str, ...], fault: str | None, seed: int
) -> None:
    body = {"tour_id": "t", **{name: TRIP[name] for name in ("hotel", "payment", "flight", "car")}}
    body |= dict.fromkeys(without)
    faults = {fault: "error"} if fault else {}
    saga_id = shapes.start(
        "tour", body, key=f"{next(keys)}", faults=faults, coordination="choreography"
    )
    shapes.settle(shuffle=random.Random(seed), twice=bool(seed % 2))
    status = must_be_as_told(shapes, TOUR, saga_id)
    assert status == ("SUCCEEDED" if fault in (None, *without) else "COMPENSATED")
