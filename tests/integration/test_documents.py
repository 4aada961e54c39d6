"""A trip names documents that its owner has uploaded; its flight's booking keeps the names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_links import Desk, on_desk
from tests.integration.trips import TRIP
from tests.valet.conftest import Answer, problem

PASSPORT = "passports/asha.pdf"


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with on_desk() as made:
        made.valet.uploaded(PASSPORT)
        yield made


def start(desk: Desk, key: str, passport: Any = PASSPORT, **more: Any) -> Answer:
    body = TRIP | {"documents": {"passport": passport}}
    return desk.call("POST", "/sagas/travel-booking", body, idempotency_key=key, **more)


def test_the_booking_of_the_flight_names_the_passport(desk: Desk) -> None:
    started = start(desk, "named")
    assert started.status == 202, started
    desk.ground.settle()
    saga = started.json["saga_id"]
    booking = desk.ground.row("flights", f"booking#{saga}#flight")
    assert booking is not None and booking["documents"] == {"passport": PASSPORT}
    hotel = desk.ground.row("hotels", f"booking#{saga}#hotel")
    assert hotel is not None and "documents" not in hotel


@pytest.mark.parametrize(
    ("passport", "more"),
    [
        ("passports/other.pdf", {}),
        (PASSPORT, {"subject": "ravi"}),
        ("../passports/asha.pdf", {}),
        ("", {}),
        (7, {}),
    ],
)
def test_what_is_not_there_or_is_no_name_is_refused_and_nothing_begins(
    desk: Desk, passport: Any, more: dict[str, Any]
) -> None:
    answer = start(desk, "refused", passport, **more)
    found = problem(answer, 422, "invalid")
    assert [one["field"] for one in found["errors"]] == ["documents.passport"]
    owner = more.get("subject", "asha")
    listed = desk.call("GET", "/sagas", subject=owner).json["items"]
    assert not [one for one in listed if one["status"] == "RUNNING"]


def test_a_trip_without_documents_is_as_before(desk: Desk) -> None:
    saga = desk.booked("plain")
    booking = desk.ground.row("flights", f"booking#{saga}#flight")
    assert booking is not None and "documents" not in booking


def test_a_start_is_repeated_after_its_document_was_withdrawn(desk: Desk) -> None:
    name = "passports/soon-gone.pdf"
    key = desk.valet.uploaded(name)
    first = start(desk, "again", name)
    assert desk.valet.revoke(key, "?withdraw=true").status == 204
    assert start(desk, "again", name).json["saga_id"] == first.json["saga_id"]
    problem(start(desk, "new", name), 422, "invalid")
    desk.ground.settle()
