"""A visit to a practice: a slot held, claimed from an insurer, the rest paid, then invoiced."""

from recourse import Saga, Step, request_model
from services import appointments, claims, invoices, payments
from statemachines.fields import Id, Key, Payer, Person


@request_model
class VisitRequest:
    """A place in a slot, on a policy; what that does not cover is paid from the account."""

    visit_id: Key
    patient: Person
    slot_id: Id
    policy_id: Id
    payment: Payer


VISIT = Saga(
    "visit",
    request=VisitRequest,
    business_key="visit_id",
    contact="patient",
    deadline=8 * claims.DAY,
    steps=[
        Step(
            "appointment",
            appointments.hold,
            undo=appointments.release,
            confirm=appointments.book,
            takes=["slot_id"],
        ),
        Step(
            "claim",
            claims.claim,
            undo=claims.withdraw,
            takes=["patient", "policy_id"],
            after=["appointment"],
        ),
        Step(
            "copayment",
            payments.authorise,
            undo=payments.void,
            takes=["payment"],
            after=["appointment", "claim"],
        ),
        Step("confirm", payments.capture, pivot=True),
        Step("invoice", invoices.issue, after=["appointment", "claim"]),
    ],
)
