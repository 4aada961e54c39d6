"""Seats in a workshop: held, then paid for."""

from typing import Annotated

from annotated_types import Ge, Le, Len
from recourse import Saga, Step, request_model

from services import payments, seats


@request_model
class Voucher:
    """What a voucher is worth, in minor units: cents."""

    amount: Annotated[int, Ge(0), Le(10_000_000)]
    currency: Annotated[str, Len(3, 3)]


@request_model
class BookingRequest:
    """Seats to book."""

    booking_id: Annotated[str, Len(1, 64)]
    workshop: Annotated[str, Len(1, 64)]
    seats: Annotated[int, Ge(1), Le(12)]
    voucher: Voucher


BOOKING = Saga(
    "booking",
    request=BookingRequest,
    business_key="booking_id",
    steps=[
        Step("seats", seats.hold, undo=seats.release, takes=["workshop", "seats"]),
        Step("payment", payments.pay, takes=["voucher"], after=["seats"], pivot=True),
    ],
)
