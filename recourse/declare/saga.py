"""How a saga is declared: once, each step with its undo.

A declaration that could lose money is refused when it is built, with the step's name in the
message: see `DeclarationError`.
"""

from __future__ import annotations

from dataclasses import dataclass

from recourse.declare import checks
from recourse.declare.declaration import Declaration, Together


@dataclass(frozen=True)
class Saga(Declaration):
    """A saga: its request, its steps in order, and the one that decides it.

    ::

        TRAVEL_BOOKING = Saga(
            "travel-booking",
            request=TripRequest,
            business_key="trip_id",
            steps=[
                Together(
                    Step("flight", flights.hold, undo=flights.release, takes=["flight"]),
                    Step("hotel", hotels.hold, undo=hotels.release, takes=["hotel"]),
                ),
                Step(
                    "payment",
                    payments.authorise,
                    undo=payments.void,
                    takes=["payment"],
                    after=["flight", "hotel"],
                ),
                Step("capture", payments.capture, pivot=True),
                Step("invoice", invoices.issue, after=["flight", "hotel"]),
            ],
        )

    Args:
        name: Lower case with dashes, at most 64 characters; part of URLs, event types and resource
            names.
        request: The class of the start request, made by `request_model`.
        business_key: The field of the request that holds the caller's own id; required, and text.
        steps: In order; a `Together` holds those that run at the same time.
        coordination: What a start gets that does not ask for one.
        deadline: Seconds after which a saga whose pivot has not acted is cancelled, 1 to a year's.
        contact: The field of the request that holds whom to notify of the end, of a class with a
            `name` and an `email`; without one, no one is notified.
        reverse: The name of the saga that takes it back once it has succeeded: refunds, releases.
            Its request is made of this one, by `recourse.declare.reverse`; without one, what has
            succeeded stays.

    Raises:
        DeclarationError: It could not keep its guarantees.
    """

    def __post_init__(self) -> None:
        checks.check_shape(self)
        groups = tuple(s.steps if isinstance(s, Together) else (s,) for s in self.steps)
        object.__setattr__(self, "groups", groups)
        checks.check(self)


def collect(*sagas: Saga) -> dict[str, Saga]:
    """Every saga of a deployment by its name.

    ::

        SAGAS = collect(TRANSFER, VISIT)  # what [tool.recourse] names by sagas = "…:SAGAS"

    Raises:
        DeclarationError: Two cannot be deployed side by side: sagas, services or functions of one
            name that are not the same; or one cannot be reversed by the saga that it names.
    """
    checks.check_all(sagas)
    return {saga.name: saga for saga in sagas}
