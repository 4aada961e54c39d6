"""An order that is taken back: its items returned, then paid back and credited."""

from recourse import Saga, Step, request_model
from services import inventory, invoices, payments
from services.counted import Booking
from statemachines.fields import Key, Person


@request_model
class OrderRefundRequest:
    """What is taken back of an order: what its steps have returned."""

    order_id: Key
    customer: Person
    inventory: Booking
    payment: payments.Payment
    invoice: invoices.Invoice | None = None


ORDER_REFUND = Saga(
    "order-refund",
    request=OrderRefundRequest,
    business_key="order_id",
    contact="customer",
    steps=[
        Step(
            "inventory",
            inventory.cancel,
            undo=inventory.reinstate,
            confirm=inventory.complete,
            takes=["inventory"],
        ),
        Step("refund", payments.pay_back, pivot=True, takes=["payment"]),
        Step("credit_note", invoices.credit, takes=["invoice"]),
    ],
)
