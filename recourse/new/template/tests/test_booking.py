"""Bookings, on a ground in process: no Docker, no account."""

import json
from pathlib import Path
from typing import Any

import pytest
from recourse.testing.ground import Ground

SAMPLES = Path(__file__).parents[1] / "samples"


def book(ground: Ground, sample: str, key: str = "k-1", **changes: Any) -> Any:
    """Start a booking, have everything delivered, and see what became of it."""
    request = json.loads((SAMPLES / sample).read_text()) | changes
    saga_id = ground.start("booking", request, key=key)
    ground.settle()
    return ground.view(saga_id)


def free(ground: Ground) -> int:
    """How many seats are free."""
    row = ground.row("seats", "workshop#pottery")
    assert row is not None
    return int(row["free"])


def test_seats_are_booked_and_paid_for(ground: Ground) -> None:
    assert book(ground, "booking.json")["status"] == "SUCCEEDED"
    assert free(ground) == 10


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, "VoucherTooSmallError"),
        ({"workshop": "alchemy"}, "UnknownWorkshopError"),
    ],
)
def test_what_is_refused_leaves_every_seat_free(
    ground: Ground, changes: dict[str, Any], error: str
) -> None:
    ended = book(ground, "booking-refused.json", **changes)
    assert (ended["status"], ended["reason"]["error"]) == ("COMPENSATED", error)
    assert free(ground) == 12


def test_more_seats_than_are_free_are_refused(ground: Ground) -> None:
    voucher = {"amount": 90_000, "currency": "EUR"}
    first = book(ground, "booking.json", seats=10, voucher=voucher)
    assert first["status"] == "SUCCEEDED"
    ended = book(ground, "booking.json", key="k-2", seats=3, voucher=voucher)
    assert (ended["status"], ended["reason"]["error"]) == ("COMPENSATED", "SoldOutError")
    assert free(ground) == 2
