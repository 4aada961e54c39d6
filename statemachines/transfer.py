"""A transfer: debited and credited as holds, then both settled at once, and notified."""

from typing import Annotated

from annotated_types import Ge, Le

from recourse import Checked, Saga, Step, request_model
from recourse.declare.money import flaw_of_currency
from services import notices, payments
from statemachines.fields import Id, Key


def flaw_of_payee(account: str, payer: str) -> str | None:
    """Why it cannot be paid by that account."""
    return "must be another account than from_account" if account == payer else None


@request_model
class TransferAmount:
    """How much, in whole minor units of one currency."""

    amount: Annotated[int, Ge(1), Le(10**15)]
    currency: Annotated[str, Checked(flaw_of_currency)]


@request_model
class TransferRequest:
    """Money from one account to another."""

    transfer_id: Key
    from_account: Id
    to_account: Annotated[Id, Checked(flaw_of_payee, beside=("from_account",))]
    amount: TransferAmount


TRANSFER = Saga(
    "transfer",
    request=TransferRequest,
    business_key="transfer_id",
    steps=[
        Step(
            "debit",
            payments.debit,
            undo=payments.release_debit,
            takes=["from_account", "to_account", "amount"],
        ),
        Step(
            "credit",
            payments.credit,
            undo=payments.release_credit,
            takes=["to_account", "amount"],
        ),
        Step("settle", payments.settle, pivot=True),
        Step("notify", notices.issue, after=["settle"]),
    ],
)
