"""Choreographies of shapes that no saga in the list has: groups after steps, steps left out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from recourse.saga import Coordination, Saga, Step, Together, request_model
from services import cars, flights, hotels, invoices, payments
from tests.integration.test_every_saga import must_be_as_told
from tests.integration.trips import TRIP, stock
from tests.moto.ground import Ground, ground

keys = itertools.count()


@request_model
class TourRequest:
    """A flight there, if any; then a room and perhaps a car."""

    tour_id: str
    hotel: dict[str, Any]
    payment: dict[str, Any]
    flight: dict[str, Any] | None = None
    car: dict[str, Any] | None = None


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
class StayRequest:
    """A flight and a car, and a room that decides."""

    stay_id: str
    flight: dict[str, Any]
    car: dict[str, Any]
    hotel: dict[str, Any]


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
def tours() -> Iterator[Ground]:
    with ground({"tour": TOUR, "stay": STAY}) as made:
        stock(made)
        yield made


@pytest.mark.parametrize("without", [(), ("car",), ("flight",), ("flight", "car")])
@pytest.mark.parametrize("fault", [None, "hotel", "car", "payment", "capture"])
@pytest.mark.parametrize("seed", range(3))
def test_groups_that_follow_steps_and_steps_left_out(
    tours: Ground, without: tuple[str, ...], fault: str | None, seed: int
) -> None:
    body = {"tour_id": "t", **{name: TRIP[name] for name in ("hotel", "payment", "flight", "car")}}
    body |= dict.fromkeys(without)
    faults = {fault: "error"} if fault else {}
    saga_id = tours.start(
        "tour", body, key=f"{next(keys)}", faults=faults, coordination="choreography"
    )
    tours.settle(shuffle=random.Random(seed), twice=bool(seed % 2))
    status = must_be_as_told(tours, TOUR, saga_id)
    assert status == ("SUCCEEDED" if fault in (None, *without) else "COMPENSATED")


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("fault", ["reject", "error", "late"])
def test_a_group_right_before_the_pivot_is_undone_whole(
    tours: Ground, coordination: Coordination, fault: str
) -> None:
    body = {"stay_id": "s", **{name: TRIP[name] for name in ("flight", "car", "hotel")}}
    saga_id = tours.start(
        "stay", body, key=f"{next(keys)}", faults={"hotel": fault}, coordination=coordination
    )
    tours.settle()
    assert must_be_as_told(tours, STAY, saga_id) == "COMPENSATED"
    assert tours.statuses(saga_id) == {"flight": "UNDONE", "car": "UNDONE", "hotel": "FAILED"}
