"""A saga of two places that waits for somebody in between, as an author writes it."""

from __future__ import annotations

from dataclasses import dataclass

from recourse import (
    Answer,
    Call,
    Decision,
    Put,
    Question,
    Refusal,
    Refused,
    Saga,
    Step,
    Update,
    Wait,
    action,
    request_model,
    undo,
)

DAY = 24 * 3600
APPROVER = "approver-1"


@request_model
class Spending:
    """What is to be spent."""

    spending_id: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much."""

    amount: int


class DeniedError(Refusal):
    """The approver said no."""


class TooMuchError(Refusal):
    """Nobody may approve so much."""


@action(Amount)
def reserve(call: Call[Amount]) -> Decision:
    """Reserve the amount."""
    row = {"pk": f"reserve#{call.saga_id}", "amount": call.ask.amount, "status": "HELD"}
    return Decision(result={"reserved": call.ask.amount}, writes=[Put(row)])


@undo()
def unreserve(call: Call) -> Decision:
    """Release it."""
    key = f"reserve#{call.saga_id}"
    return Decision(writes=[Update(key, put={"status": "RELEASED"}, when={"status": "HELD"})])


def approved(call: Call[Amount], answer: Answer) -> Decision | Refused:
    """What the answer does."""
    key = f"approval#{call.saga_id}"
    if answer.reason == "too much":
        raise TooMuchError(answer.reason)
    if answer.approved:
        said = {"status": "APPROVED", "by": answer.by}
        return Decision(
            result={"by": answer.by, "reserved": call.results["reserve"]["reserved"]},
            writes=[Update(key, put=said, when={"status": "OPEN"})],
        )
    return Refused(
        DeniedError(answer.reason),
        [Update(key, put={"status": "DENIED"}, when={"status": "OPEN"})],
    )


@action(
    Amount,
    refuses=[DeniedError, TooMuchError],
    waits=Wait("approvals", approved, scope="insurer", within=7 * DAY, remind=1 * DAY),
)
def ask(call: Call[Amount]) -> Decision | Question:
    """Small amounts need nobody."""
    row = {"pk": f"approval#{call.saga_id}", "amount": call.ask.amount}
    if call.ask.amount < 100:
        return Decision(result={"by": None}, writes=[Put(row | {"status": "APPROVED"})])
    to = APPROVER if call.ask.amount > 10_000 else None
    return Question(
        about={"amount": call.ask.amount}, to=to, writes=[Put(row | {"status": "OPEN"})]
    )


@undo(reads=lambda call: [f"approval#{call.saga_id}"])
def withdraw(call: Call) -> Decision:
    """Withdraw the question, or what was decided."""
    assert call.item is not None
    status = call.item["status"]
    key = f"approval#{call.saga_id}"
    return Decision(writes=[Update(key, put={"status": "WITHDRAWN"}, when={"status": status})])


class EmptyError(Refusal):
    """There is no money."""


@action(Amount, refuses=[EmptyError])
def earmark(call: Call[Amount]) -> Decision:
    """Earmark the amount."""
    row = {"pk": f"earmark#{call.saga_id}", "status": "HELD"}
    return Decision(result={}, writes=[Put(row)])


@undo()
def unmark(call: Call) -> Decision:
    """Take it back."""
    key = f"earmark#{call.saga_id}"
    return Decision(writes=[Update(key, put={"status": "RELEASED"}, when={"status": "HELD"})])


@action(Amount)
def spend(call: Call[Amount]) -> Decision:
    """Spend it."""
    return Decision(writes=[Put({"pk": f"spent#{call.saga_id}", "amount": call.ask.amount})])


SPENDING = Saga(
    "spending",
    request=Spending,
    business_key="spending_id",
    deadline=30 * DAY,
    steps=[
        Step("reserve", reserve, undo=unreserve, takes=["amount"]),
        Step("approval", ask, undo=withdraw, takes=["amount"], after=["reserve"]),
        Step("earmark", earmark, undo=unmark, takes=["amount"], after=["approval"]),
        Step("spend", spend, pivot=True, takes=["amount"]),
    ],
)
