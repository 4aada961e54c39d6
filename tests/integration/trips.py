"""Trips to book on the ground, and what must be true of the services whatever happened to them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from services.holdings import HOLDINGS
from services.payments import INCOME
from tests.ground import Ground

TRIP: dict[str, Any] = {
    "trip_id": "t-1",
    "traveller": {"name": "Asha Rao", "email": "asha@example.com"},
    "flight": {"id": "AI-202", "seats": 2},
    "hotel": {"id": "taj-delhi", "rooms": 1, "nights": 3},
    "car": {"id": "del-compact", "days": 3},
    "payment": {"account_id": "acct-asha"},
}
PRICE = 2 * 4800 + 3 * 9500 + 3 * 2200
THINGS = {
    ("flights", "AI-202"): {"total": 10_000, "price": {"amount": 4800, "currency": "INR"}},
    ("hotels", "taj-delhi"): {"total": 10_000, "price": {"amount": 9500, "currency": "INR"}},
    ("cars", "del-compact"): {"total": 10_000, "price": {"amount": 2200, "currency": "INR"}},
    ("accounts", "acct-asha"): {"currency": "INR", "balance": 10**12},
}
QUANTITIES = {"flight": 2, "hotel": 1, "car": 1}
HOLDS = {"flight": "flights", "hotel": "hotels", "car": "cars"}
"""The service in which each holding step holds something."""


def stock(ground: Ground) -> None:
    """Put what trips need."""
    for (kind, thing), body in THINGS.items():
        ground.put(kind, thing, body)


def must_hold(ground: Ground) -> None:
    """What is true of the services at any time, by their own rows.

    Every count adds up and equals its bookings; every movement sums to zero and every account is
    the sum of its postings; there is one capture a captured payment, and none without a booking.
    """
    ground.must_know_who_holds()
    bookings = {kind: ground.rows(kind, "booking#") for kind in HOLDS.values()}
    for (kind, thing), body in ground.stock.items():
        if kind == "accounts":
            continue
        shown = ground.held(kind, thing)
        assert shown["total"] == body["total"]
        assert shown["total"] == shown["available"] + shown["held"] + shown["confirmed"], shown
        assert min(shown["available"], shown["held"], shown["confirmed"]) >= 0, shown
        for status, count in (("HELD", "held"), ("CONFIRMED", "confirmed")):
            mine = [b["things"] for b in bookings[kind] if b["status"] == status]
            booked = sum(things.get(HOLDINGS[kind].key(thing), 0) for things in mine)
            assert booked == shown[count], (kind, status)
    posted: Counter[str] = Counter()
    movements = ground.rows("payments", "movement#")
    for movement in movements:
        assert sum(movement["postings"].values()) == 0, movement
        posted.update(movement["postings"])
    account = ground.held("accounts", "acct-asha")
    assert account["available"] == posted["acct-asha:available"]
    assert account["held"] == posted["acct-asha:held"]
    assert account["balance"] == account["available"] + account["held"]
    payments = ground.rows("payments", "payment#")
    captured = [p for p in payments if p["status"] == "CAPTURED"]
    assert posted[INCOME] == sum(p["amount"]["amount"] for p in captured)
    for payment in captured:
        held = {
            b["step"]
            for rows in bookings.values()
            for b in rows
            if b["saga_id"] == payment["saga_id"] and b["status"] in ("HELD", "CONFIRMED")
        }
        assert held >= {"flight", "hotel"}, "a capture without a booking"


def must_be_whole(ground: Ground, saga: str) -> None:
    """Every effect of the trip is there, once, and its holds have become bookings."""
    record = ground.ledger.get(saga)
    assert record is not None
    price = 0
    for step, kind in HOLDS.items():
        booking = ground.row(kind, f"booking#{saga}#{step}")
        if record.request.get(step) is None:
            assert booking is None
            continue
        assert booking is not None and booking["status"] == "CONFIRMED"
        assert list(booking["things"].values()) == [QUANTITIES[step]]
        price += booking["price"]["amount"]
    payment = ground.row("payments", f"payment#{saga}")
    assert payment is not None
    assert (payment["status"], payment["amount"]["amount"]) == ("CAPTURED", price)


def must_be_gone(ground: Ground, saga: str) -> None:
    """No effect of the trip is left."""
    for step, kind in HOLDS.items():
        booking = ground.row(kind, f"booking#{saga}#{step}")
        assert booking is None or booking["status"] == "RELEASED", booking
    payment = ground.row("payments", f"payment#{saga}")
    assert payment is None or payment["status"] == "VOIDED", payment
    assert ground.row("invoices", f"invoice#{saga}") is None


def must_agree(ground: Ground, saga: str) -> str:
    """The effects agree with the status; the status."""
    must_hold(ground)
    view = ground.view(saga)
    status = str(view["status"])
    if status == "SUCCEEDED":
        must_be_whole(ground, saga)
    elif status == "COMPENSATED":
        must_be_gone(ground, saga)
    record = ground.ledger.get(saga)
    assert record is not None
    visible = [event for event in record.entered if event.sequence]
    assert [event.sequence for event in visible] == list(range(1, len(visible) + 1))
    assert not record.waiting, "an event still waits for its causes"
    return status
