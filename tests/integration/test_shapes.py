"""Choreographies of shapes that no saga in the list has: groups after steps, steps left out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from recourse.saga import Saga, Step, Together, request_model
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


@pytest.fixture(scope="module")
def tours() -> Iterator[Ground]:
    with ground({"tour": TOUR}) as made:
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
