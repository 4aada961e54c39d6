"""A trip: flight, hotel and car together, then paid, captured and invoiced."""

from typing import Annotated

from annotated_types import Ge, Le

from recourse import Saga, Step, Together, request_model
from services import cars, flights, hotels, invoices, payments
from statemachines.fields import DocumentName, Id, Key, Payer, Person


@request_model
class FlightAsk:
    """Seats on a flight."""

    id: Id
    seats: Annotated[int, Ge(1), Le(9)]


@request_model
class HotelAsk:
    """Rooms of a hotel, for some nights."""

    id: Id
    rooms: Annotated[int, Ge(1), Le(9)]
    nights: Annotated[int, Ge(1), Le(90)]


@request_model
class CarAsk:
    """A car of a class, for some days."""

    id: Id
    days: Annotated[int, Ge(1), Le(90)]


@request_model
class TripDocuments:
    """What the traveller has uploaded, by its name in the owner's own space."""

    passport: DocumentName


@request_model
class TripRequest:
    """A trip to book; the car and the documents may be left out."""

    trip_id: Key
    traveller: Person
    flight: FlightAsk
    hotel: HotelAsk
    payment: Payer
    car: CarAsk | None = None
    documents: TripDocuments | None = None


TRAVEL_BOOKING = Saga(
    "travel-booking",
    request=TripRequest,
    business_key="trip_id",
    contact="traveller",
    reverse="trip-refund",
    steps=[
        Together(
            Step(
                "flight",
                flights.hold,
                undo=flights.release,
                confirm=flights.book,
                takes=["flight", "documents"],
            ),
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
