"""An order: all its lines reserved or none, then paid, captured and invoiced."""

from typing import Annotated

from annotated_types import Ge, Le, Len

from recourse import Checked, Saga, Step, request_model
from recourse.text import flaw_of_id
from services import inventory, invoices, payments
from statemachines.fields import Key, Payer, Person

LINES = 200
"""The most lines. More than the skus that the inventory can reserve at once, because lines may
repeat a sku, and the inventory itself refuses too many skus; few enough that lines with the longest
skus fit into the data of one run (256 KiB)."""


@request_model
class OrderLine:
    """A quantity of one sku."""

    sku: Annotated[str, Len(1, 64), Checked(flaw_of_id)]
    quantity: Annotated[int, Ge(1), Le(9999)]


@request_model
class OrderRequest:
    """An order of items in stock."""

    order_id: Key
    customer: Person
    lines: Annotated[list[OrderLine], Len(1, LINES)]
    payment: Payer


ORDER = Saga(
    "order",
    request=OrderRequest,
    business_key="order_id",
    contact="customer",
    reverse="order-refund",
    steps=[
        Step(
            "inventory",
            inventory.reserve,
            undo=inventory.release,
            confirm=inventory.book,
            takes=["lines"],
        ),
        Step(
            "payment",
            payments.authorise,
            undo=payments.void,
            takes=["payment"],
            after=["inventory"],
        ),
        Step("capture", payments.capture, pivot=True),
        Step("invoice", invoices.issue, after=["inventory"]),
    ],
)
