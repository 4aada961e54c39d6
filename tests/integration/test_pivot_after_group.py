"""A pivot right after a group: what runs together is undone whole where the pivot does not act.

A ground of its own: here a hold decides, and elsewhere the same function serves it with an undo.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import get_args

import pytest

from recourse.declare.declaration import Coordination, Step, Together
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from services import cars, flights, hotels
from statemachines.order import ORDER
from statemachines.travel_booking import CarAsk, FlightAsk, HotelAsk
from tests.ground import Ground, ground
from tests.integration.test_every_saga import must_be_as_told
from tests.integration.trips import TRIP, stock

keys = itertools.count()


@request_model
class StayRequest:
    """A flight and a car, and a room that decides."""

    stay_id: str
    flight: FlightAsk
    car: CarAsk
    hotel: HotelAsk


STAY = Saga(
    "stay",
    request=StayRequest,
    business_key="stay_id",
    steps=[
        Together(
            Step("flight", flights.hold, undo=flights.release, takes=["flight"]),
            Step("car", cars.hold, undo=cars.release, takes=["car"]),
        ),
        Step("hotel", hotels.hold, takes=["hotel"], pivot=True),
    ],
)


@pytest.fixture(scope="module")
def stays() -> Iterator[Ground]:
    with ground({"stay": STAY, "order": ORDER}) as made:
        stock(made)
        yield made


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("fault", ["reject", "error", "late"])
def test_a_group_right_before_the_pivot_is_undone_whole(
    stays: Ground, coordination: Coordination, fault: str
) -> None:
    body = {"stay_id": "s", **{name: TRIP[name] for name in ("flight", "car", "hotel")}}
    saga_id = stays.start(
        "stay", body, key=f"{next(keys)}", faults={"hotel": fault}, coordination=coordination
    )
    stays.settle()
    assert must_be_as_told(stays, STAY, saga_id) == "COMPENSATED"
    assert stays.statuses(saga_id) == {"flight": "UNDONE", "car": "UNDONE", "hotel": "FAILED"}
