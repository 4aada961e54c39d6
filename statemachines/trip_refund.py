"""A trip that is taken back: its bookings cancelled, then paid back and credited."""

from recourse import Saga, Step, Together, request_model
from services import cars, flights, hotels, invoices, payments
from services.counted import Booking
from statemachines.fields import Key, Person


@request_model
class TripRefundRequest:
    """What is taken back of a trip: what its steps have returned."""

    trip_id: Key
    traveller: Person
    flight: flights.Booking
    hotel: Booking
    payment: payments.Payment
    car: Booking | None = None
    invoice: invoices.Invoice | None = None


TRIP_REFUND = Saga(
    "trip-refund",
    request=TripRefundRequest,
    business_key="trip_id",
    contact="traveller",
    steps=[
        Together(
            Step(
                "flight",
                flights.cancel,
                undo=flights.reinstate,
                confirm=flights.complete,
                takes=["flight"],
            ),
            Step(
                "hotel",
                hotels.cancel,
                undo=hotels.reinstate,
                confirm=hotels.complete,
                takes=["hotel"],
            ),
            Step("car", cars.cancel, undo=cars.reinstate, confirm=cars.complete, takes=["car"]),
        ),
        Step("refund", payments.pay_back, pivot=True, takes=["payment"]),
        Step("credit_note", invoices.credit, takes=["invoice"]),
    ],
)
