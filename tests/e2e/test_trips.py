"""Trips, from outside: booked or undone, whatever fails, by the services' own counts."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import httpx
import pytest

from recourse.cli.api import Api, ApiError
from recourse.declare.declaration import Coordination
from recourse.local.cloud import LocalCloud
from tests.e2e.conftest import BALANCE, PRICES, Trip
from tests.patience import PATIENCE, until

QUANTITIES = {"flights": 2, "hotels": 1, "cars": 1}


def must_be_booked(trip: Trip, times: int = 1) -> None:
    """The trip's effects are there so many times, and its holds soon are bookings."""
    counts = until(
        trip.counts,
        "that what is held is booked",
        lambda seen: not any(seen[kind]["held"] for kind in PRICES),
    )
    for kind, quantity in QUANTITIES.items():
        assert (counts[kind]["confirmed"], counts[kind]["held"]) == (quantity * times, 0)
    assert counts["accounts"]["balance"] == BALANCE - trip.price * times
    assert counts["accounts"]["held"] == 0


def must_be_untouched(trip: Trip) -> None:
    """No effect of the trip is left."""
    counts = trip.counts()
    for kind in PRICES:
        assert counts[kind]["available"] == counts[kind]["total"], counts[kind]
    assert (counts["accounts"]["balance"], counts["accounts"]["held"]) == (BALANCE, 0)


def test_a_trip_is_booked(trip: Trip) -> None:
    saga = trip.ended(trip.start(), "SUCCEEDED")
    assert {step["status"] for step in saga["steps"]} == {"DONE"}
    assert all(step["attempts"] == 1 for step in saga["steps"])
    must_be_booked(trip)


def test_a_declined_trip_is_undone(trip: Trip) -> None:
    trip.api.call("PUT", trip.path("accounts"), json={"currency": "INR", "balance": 1})
    saga = trip.ended(trip.start(), "COMPENSATED")
    assert saga["reason"]["error"] == "PaymentDeclinedError"
    trip.api.call("PUT", trip.path("accounts"), json={"currency": "INR", "balance": BALANCE})
    must_be_untouched(trip)


@pytest.mark.parametrize(
    "chaos",
    [
        "hotel=reject",
        "payment=crash:1",
        "flight=error:2, car=duplicate",
        "flight=timeout",
        "car=crash, hotel.undo=error:2",
        "payment=late",
        "capture=timeout:1",
        "capture=crash",
        "capture=reject, payment.undo=crash:1",
        "invoice=error:3",
    ],
)
def test_under_faults_a_trip_is_booked_whole_or_undone_whole(trip: Trip, chaos: str) -> None:
    *_, saga = trip.api.follow(trip.start(chaos))
    assert saga["status"] in ("SUCCEEDED", "COMPENSATED")
    if saga["status"] == "SUCCEEDED":
        must_be_booked(trip)
    else:
        must_be_untouched(trip)


def test_an_undo_that_fails_is_seen_and_resolved(trip: Trip) -> None:
    stuck = trip.ended(trip.start("capture=reject, hotel.undo=reject:5"), "COMPENSATION_FAILED")
    hotel = next(step for step in stuck["steps"] if step["name"] == "hotel")
    assert (hotel["status"], hotel["undo_attempts"]) == ("UNDO_FAILED", 4)
    assert trip.counts()["flights"]["held"] == 0, "the others are undone"
    resolve = f"/sagas/{stuck['saga_id']}/steps/hotel/resolve"
    trip.api.call("POST", resolve, json={"action": "retry"})
    saga = trip.ended(stuck["saga_id"], "COMPENSATED")
    assert next(s for s in saga["steps"] if s["name"] == "hotel")["status"] == "UNDONE"
    must_be_untouched(trip)
    with pytest.raises(ApiError, match="409"):
        trip.api.call("POST", resolve, json={"action": "retry"})


def test_a_trip_can_be_cancelled_before_its_pivot(orchestrated: Trip) -> None:
    trip = orchestrated
    saga_id = trip.start("payment=timeout:1")
    trip.api.call("POST", f"/sagas/{saga_id}/cancel")
    saga = trip.ended(saga_id, "COMPENSATED")
    assert saga["reason"]["error"] == "StepCancelledError"
    must_be_untouched(trip)


def test_a_booked_trip_cannot_be_cancelled(trip: Trip) -> None:
    saga_id = trip.start()
    trip.ended(saga_id, "SUCCEEDED")
    with pytest.raises(ApiError, match="409"):
        trip.api.call("POST", f"/sagas/{saga_id}/cancel")
    must_be_booked(trip)


def test_the_same_start_ten_times_at_once_is_one_trip(trip: Trip) -> None:
    with ThreadPoolExecutor(10) as pool:
        ids = set(pool.map(lambda _: trip.start(key=trip.name), range(10)))
    (saga_id,) = ids
    trip.ended(saga_id, "SUCCEEDED")
    must_be_booked(trip)


@pytest.mark.parametrize("coordination", get_args(Coordination))
def test_sixteen_clients_on_scarce_seats_never_oversell(
    api: Api, coordination: Coordination
) -> None:
    trip = Trip(api, coordination=coordination).stocked()
    for kind in ("hotels", "cars"):
        # Only seats are scarce: a room that a losing trip holds for a moment decides nothing.
        price = {"amount": PRICES[kind], "currency": "INR"}
        api.call("PUT", trip.path(kind), json={"total": 16, "price": price})
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda _: trip.start(), range(16)))
    ended = []
    for saga_id in ids:
        *_, saga = api.follow(saga_id)
        ended.append(saga["status"])
    assert ended.count("SUCCEEDED") == 5, "ten seats, two a trip"
    assert ended.count("COMPENSATED") == 11
    must_be_booked(trip, times=5)


@pytest.mark.parametrize("coordination", get_args(Coordination))
@pytest.mark.parametrize("quantity", [2, 11], ids=["enough", "too many"])
def test_an_order_is_reserved_whole_or_not_at_all(
    api: Api, coordination: Coordination, quantity: int
) -> None:
    name = uuid.uuid4().hex[:12]
    price = {"amount": 100, "currency": "INR"}
    for sku in (f"{name}-a", f"{name}-b"):
        api.call("PUT", f"/stock/{sku}", json={"total": 10, "price": price})
    api.call("PUT", f"/accounts/{name}", json={"currency": "INR", "balance": BALANCE})
    order = {
        "order_id": name,
        "customer": {"name": "Asha Rao", "email": "asha@example.com"},
        "lines": [
            {"sku": f"{name}-a", "quantity": 3},
            {"sku": f"{name}-b", "quantity": quantity},
        ],
        "payment": {"account_id": name},
    }
    started = api.start("order", order, key=name, coordination=coordination)
    *_, saga = api.follow(started["saga_id"])
    booked = quantity <= 10
    assert saga["status"] == ("SUCCEEDED" if booked else "COMPENSATED")
    if not booked:
        assert saga["reason"]["error"] == "StockUnavailableError"
    shown = until(
        lambda: [api.get(f"/stock/{name}-{one}") for one in "ab"],
        "that nothing is held any more",
        lambda seen: not any(one["held"] for one in seen),
    )
    assert [one["confirmed"] for one in shown] == ([3, quantity] if booked else [0, 0])
    paid = BALANCE - api.get(f"/accounts/{name}")["balance"]
    assert paid == (100 * (3 + quantity) if booked else 0)


def test_the_trips_of_a_page_are_ones_own(trip: Trip, cloud: LocalCloud) -> None:
    saga_id = trip.start()
    with Api(cloud.api_url, cloud.token("ravi", "sagas:read sagas:write")) as ravi:
        with pytest.raises(ApiError, match="404"):
            ravi.get(f"/sagas/{saga_id}")
        assert ravi.get("/sagas", business_key=trip.name)["items"] == []
    found = trip.api.get("/sagas", business_key=trip.name)["items"]
    assert [saga["saga_id"] for saga in found] == [saga_id]
    trip.ended(saga_id, "SUCCEEDED")


def test_only_the_open_paths_answer_without_a_token(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as anybody:
        assert anybody.get("/health").status_code == 200
        assert anybody.get("/openapi.json").status_code == 200
        assert anybody.get("/docs").status_code == 200
        assert anybody.get("/sagas").status_code == 401
        bad = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}
        assert anybody.get("/sagas", headers=bad).status_code == 401


def test_a_token_of_another_key_or_out_of_date_is_refused(cloud: LocalCloud) -> None:
    token = cloud.token("asha", "sagas:read", lifetime=-10)
    with Api(cloud.api_url, token) as late, pytest.raises(ApiError, match="401"):
        late.get("/sagas")
    head, body, signature = cloud.token("asha", "sagas:read").split(".")
    forged = ".".join([head, body, signature[::-1]])
    with Api(cloud.api_url, forged) as liar, pytest.raises(ApiError, match="401"):
        liar.get("/sagas")


def test_a_token_without_the_scope_is_forbidden(cloud: LocalCloud) -> None:
    with Api(cloud.api_url, cloud.token("asha", "sagas:read")) as reader:
        with pytest.raises(ApiError, match="403"):
            reader.start("travel-booking", {}, key="k")
        with pytest.raises(ApiError, match="403"):
            reader.call("PUT", "/flights/none", json={})
