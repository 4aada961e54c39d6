"""A provider elsewhere that keeps books, and a step that charges there, on the bench."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from recourse.declare.step import Action, Call, Decision, Put, Undo, action, undo
from recourse.errors import Refusal, TransientError


class DeclinedError(Refusal):
    pass


class Provider:
    """A provider that keeps books, by key; `charging` and `charged` are what goes wrong round it.

    A charge and its cancellation are idempotent by key, as a provider's idempotency key has it.
    """

    def __init__(self) -> None:
        self.books: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.deadlines: list[datetime | None] = []
        self.charging: Callable[[], None] = lambda: None
        self.charged: Callable[[], None] = lambda: None
        self.action, self.undo = self._step()

    def _step(self) -> tuple[Action, Undo]:
        @action(external=True, refuses=[DeclinedError], find=lambda call: self.find(call))
        def charge(call: Call) -> Decision:
            self.charge(call)
            return _paid(call)

        @undo(external=True)
        def give_back(call: Call) -> Decision:
            assert call.result in (None, {"charge": call.saga_id})
            self.cancel(call)
            return Decision()

        return charge, give_back

    def charge(self, call: Call) -> str:
        self.calls["charge"] += 1
        self.deadlines.append(call.deadline)
        self.charging()
        self.books.setdefault(call.saga_id, "CHARGED")
        self.charged()
        return self.books[call.saga_id]

    def cancel(self, call: Call) -> None:
        self.calls["cancel"] += 1
        self.books[call.saga_id] = "CANCELLED"

    def find(self, call: Call) -> Decision | None:
        self.calls["find"] += 1
        if self.books.get(call.saga_id) != "CHARGED":
            return None
        return _paid(call)


def _paid(call: Call) -> Decision:
    row = Put({"pk": f"charge#{call.saga_id}", "status": "CHARGED"})
    return Decision(result={"charge": call.saga_id}, writes=[row])


def no_answer() -> None:
    raise TransientError("no answer from the provider")


def decline() -> None:
    raise DeclinedError("no money")
