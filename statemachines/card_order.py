"""An order that is paid by card, through an external payment provider."""

from typing import Annotated

from annotated_types import Len

from recourse import Saga, Step, request_model
from services import cards, inventory, invoices
from statemachines.fields import Person
from statemachines.order import LINES, OrderLine


@request_model
class Card:
    """A card, by the token that the provider's form issued for it."""

    token: Annotated[str, Len(1, 128)]


@request_model
class CardOrderRequest:
    """An order of items in stock."""

    order_id: Annotated[str, Len(1, 128)]
    customer: Person
    lines: Annotated[list[OrderLine], Len(1, LINES)]
    card: Card


CARD_ORDER = Saga(
    "card-order",
    request=CardOrderRequest,
    business_key="order_id",
    contact="customer",
    steps=[
        Step(
            "inventory",
            inventory.reserve,
            undo=inventory.release,
            confirm=inventory.book,
            takes=["lines"],
        ),
        Step("card", cards.authorise, undo=cards.void, takes=["card"], after=["inventory"]),
        Step("capture", cards.capture, pivot=True),
        Step("invoice", invoices.issue, after=["inventory"]),
    ],
)
