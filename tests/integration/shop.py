"""The services' own steps on the bench's table, and what must be true of what they hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from moto.dynamodb.models import dynamodb_backends

from recourse.declare.ids import SagaId
from recourse.declare.step import Put
from recourse.errors import Refusal, StepCancelledError, TransientError
from recourse.run.runner import StepRunner
from recourse.store.items import decode_item, encode_item
from recourse.testing.handlers import ACCOUNT
from services import appointments, cards, cars, flights, hotels, inventory, payments
from services.holdings import HOLDINGS
from tests.integration.bench import TABLE, Bench
from tests.prices import money

Outcome = tuple[str, Any]
"""How a phase came out: `answered` and with what, or `raised` and by which name."""
PRICE = 100
THINGS = 4
TIMEOUT = 2
"""Seconds of a try, so that what never holds is not asked for often."""
STEPS: dict[str, tuple[Any, ...]] = {
    "flight": (flights.hold, flights.release, flights.book),
    "hotel": (hotels.hold, hotels.release, hotels.book),
    "car": (cars.hold, cars.release, cars.book),
    "slot": (appointments.hold, appointments.release, appointments.book),
    "item": (inventory.reserve, inventory.release, inventory.book),
    "payment": (payments.authorise, payments.void),
    "capture": (payments.capture, payments.refund),
    "debit": (payments.debit, payments.release_debit),
    "credit": (payments.credit, payments.release_credit),
    "settle": (payments.settle,),
    "card": (cards.authorise, cards.void),
    "card capture": (cards.capture,),
}
KINDS = {"flight": "flights", "hotel": "hotels", "car": "cars", "slot": "slots", "item": "stock"}
"""Where the API shows what a step holds."""
_shops = itertools.count()


class Shop:
    """A thing of each kind, of which there are four, and two accounts with as much as three cost.

    They are all that is in the table.

    Attributes:
        thing: The id of all of them, and of one of the accounts.
        other: The id of the other account.
    """

    def __init__(self, bench: Bench) -> None:
        self.thing = f"shop-{next(_shops):05}"
        self.other = f"{self.thing}-other"
        self._bench = Bench(bench.dynamodb)
        self._runners = {
            name: StepRunner(bench.dynamodb, TABLE, *steps, **self._bench.time)
            for name, steps in STEPS.items()
        }
        self._table: Any = dynamodb_backends[ACCOUNT]["us-east-1"].tables[TABLE]
        self._table.items.clear()
        for kind in KINDS.values():
            self._put(kind, {"total": THINGS, "price": money(PRICE, "INR")})
        for account in (self.thing, self.other):
            self._put("accounts", {"currency": "INR", "balance": 3 * PRICE}, account)

    def _put(self, kind: str, body: Mapping[str, Any], thing: str = "") -> None:
        for write in HOLDINGS[kind].change(thing or self.thing, None, body) or ():
            assert isinstance(write, Put)
            self._table.put_item(encode_item(write.item))

    def saga(self, name: str) -> SagaId:
        """The id of a saga of this shop."""
        return SagaId.of("shop", self.thing, name)

    def ask(
        self, step: str, phase: str, saga: str = "one", *, quantity: int = 1, price: int = PRICE
    ) -> Outcome:
        """Ask a step of a saga for a phase.

        Args:
            step: The step.
            phase: What is asked for.
            saga: Whose.
            quantity: How many it holds.
            price: What it pays.
        """
        role = "pivot" if "capture" in step and phase in ("settle", "cancel") else "compensable"
        try:
            answer = self._bench.ask(
                phase,
                self.saga(saga),
                self._runners[step],
                step=step,
                role=role,
                request=self._request(step, quantity, price, saga),
                results={"flight": {"price": money(price, "INR")}},
                timeout=TIMEOUT,
            )
        except (TransientError, StepCancelledError, Refusal) as problem:
            return "raised", type(problem).__name__
        return "answered", answer

    def _request(self, step: str, quantity: int, price: int, saga: str) -> dict[str, Any]:
        thing = {"id": self.thing}
        ways = [self.thing, self.other]
        match step:
            case "flight":
                return {"flight": thing | {"seats": quantity}}
            case "hotel":
                return {"hotel": thing | {"rooms": quantity, "nights": 1}}
            case "car":
                return {"car": thing | {"days": 1}}
            case "slot":
                return {"slot_id": self.thing}
            case "item":
                return {"lines": [{"sku": self.thing, "quantity": quantity}]}
            case "payment":
                return {"payment": {"account_id": self.thing}}
            case "debit" | "credit":
                payer, payee = reversed(ways) if saga == "back" else ways
                sides = {"from_account": payer, "to_account": payee}
                return sides | {"amount": money(price, "INR")}
            case "card":
                return {"card": {"token": "tok_good"}}
        return {}

    def pass_time(self) -> None:
        """Let the time of every try pass."""
        self._bench.naps.append(TIMEOUT)

    # What must be true.

    def rows(self, prefix: str = "") -> dict[str, dict[str, Any]]:
        """The rows whose key begins so."""
        return {
            key.value: decode_item(row.to_json()["Attributes"])
            for key, row in self._table.items.items()
            if key.value.startswith(prefix)
        }

    def must_add_up(self) -> None:
        """Every count equals its bookings, every account its postings and its payments."""
        rows = self.rows()
        bookings = [row for key, row in rows.items() if key.startswith("booking#")]
        for kind in KINDS:
            thing = rows[f"{kind}#{self.thing}"]
            assert thing["total"] == thing["available"] + thing["held"] + thing["confirmed"], thing
            assert min(thing["available"], thing["held"], thing["confirmed"]) >= 0, thing
            for status, count in (("HELD", "held"), ("CONFIRMED", "confirmed")):
                mine = [one["things"] for one in bookings if one["status"] == status]
                assert sum(one.get(thing["pk"], 0) for one in mine) == thing[count], (status, kind)
        posted: Counter[str] = Counter()
        for movement in (row for key, row in rows.items() if key.startswith("movement#")):
            assert not sum(movement["postings"].values()), movement
            posted.update(movement["postings"])
        paid: Counter[str] = Counter()
        for payment in (row for key, row in rows.items() if key.startswith("payment#")):
            paid[payment["status"]] += payment["amount"]["amount"]
        for row in (row for key, row in rows.items() if key.startswith("debit#")):
            paid[f"{row['account_id']} {row['status']}"] += row["amount"]["amount"]
        paid[f"{self.thing} HELD"] += paid["AUTHORISED"]
        for name in (self.thing, self.other):
            account = rows[f"account#{name}"]
            assert account["available"] == posted[f"{name}:available"] >= 0
            assert account["held"] == posted[f"{name}:held"] == paid[f"{name} HELD"]
            assert account["balance"] == account["available"] + account["held"]
        assert posted[payments.INCOME] == paid["CAPTURED"]
