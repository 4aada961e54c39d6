"""Money is conserved with Stripe in the loop: its books and our rows agree, whatever goes wrong.

A batch is drawn from a seed, as in `test_random`; besides what befalls its sagas there, Stripe
fails before and after an effect, closes the connection, answers late or twice, acts when the caller
has gone, and cancels what it had authorised.

`HYPOTHESIS_TIMES=20 pytest tests/integration/test_stripe.py --junitxml FILE` draws twenty times as
many, and leaves in the file what they were and how much money moved.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from recourse.declare.declaration import Coordination
from recourse.orchestration import sweeper as sweeper_module
from recourse.store.aws import client
from services.gateways import exchange
from statemachines import SAGAS
from tests.ground import Ground, ground
from tests.integration import test_random
from tests.integration.test_cards import ORDER, PRICE, SAMPLES
from tests.integration.test_every_saga import (
    COORDINATIONS,
    bring_to_rest,
    from_outside,
    must_be_as_told,
    outcome,
    targets,
)
from tests.profile import TIMES
from tests.stripe import provider

SAGA = SAGAS["card-order"]
BATCH, BATCHES = 25, 2 * TIMES
TARGETS = targets(SAGA)
FAULTS = [
    (operation, fault)
    for operation in ("create", "confirm", "capture", "cancel", "retrieve", "refund", "list")
    for fault in provider.FAULTS
    if fault != "expired" or operation in ("confirm", "capture")
]
TOKENS = ["tok_visa"] * 6 + ["tok_declined", "tok_chargeDeclinedInsufficientFunds"]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that soon stops waiting, and a sweeper that does not wait at all."""
    monkeypatch.setattr(exchange, "LONGEST", 0.2)
    monkeypatch.setattr(sweeper_module, "GRACE_PERIOD", timedelta(0))


@contextmanager
def striped() -> Iterator[tuple[Ground, provider.Books]]:
    """A ground whose payments are Stripe's."""
    books = provider.Books()
    with ground({SAGA.name: SAGA}) as made, provider.served(books) as url:
        secret = client("secretsmanager").create_secret(
            Name="stripe", SecretString=json.dumps({"api_key": provider.KEY})
        )
        there = {"PAYMENT_PROVIDER": f"stripe:{url}", "PAYMENT_SECRET": secret["ARN"]}
        for sku, body in json.loads((SAMPLES / "seed.json").read_text())["stock"].items():
            made.put("stock", sku, body | {"total": 1000 * body["total"]})
        made.books = books  # type: ignore[assignment]
        with mock.patch.dict(os.environ, there):
            yield made, books
        be_quiet(books)


def be_quiet(books: provider.Books) -> None:
    """Wait until Stripe has done what was asked of it, whoever has gone meanwhile."""
    while books.busy:
        time.sleep(0.01)


def must_be_conserved(made: Ground, books: provider.Books, sagas: list[str]) -> Counter[str]:
    """What was authorised was captured or let go, nothing twice, and our rows say the same."""
    assert books.wrong == []
    sums: Counter[str] = Counter()
    moves: dict[str, Counter[str]] = {}
    for entry in books.journal:
        own = moves.setdefault(entry["payment"], Counter())
        assert not own[entry["what"]], entry
        own[entry["what"]] += entry["amount"]
    for saga in sagas:
        if outcome(made, saga, "card", "cards", "undo") == "skipped":
            sums["left to an operator"] += 1
            continue
        mine = [one["id"] for one in books.of_saga(saga)]
        assert len(mine) <= 1, "one payment a saga"
        own = moves.get(mine[0], Counter()) if mine else Counter()
        assert own["authorise"] == own["capture"] + own["cancel"]
        taken = own["capture"] - own["refund"]
        status = made.view(saga)["status"]
        row = made.row("cards", f"payment#{saga}")
        if status == "SUCCEEDED":
            assert row is not None and row["status"] == "CAPTURED"
            assert taken == row["amount"]["amount"] == PRICE
        else:
            assert (status, taken) == ("COMPENSATED", 0)
            assert row is None or row["status"] in ("VOIDED", "REFUNDED")
        sums.update(own)
    return sums


@pytest.mark.parametrize("coordination", COORDINATIONS)
def test_a_payment_by_stripe_is_captured_once(coordination: Coordination) -> None:
    with striped() as (made, books):
        saga = made.start(SAGA.name, ORDER, key="k", coordination=coordination)
        made.settle()
        assert must_be_as_told(made, SAGA, saga) == "SUCCEEDED"
        (intent,) = books.intents.values()
        row = made.row("cards", f"payment#{saga}")
        assert row is not None and row["payment"] == intent["id"]
        assert must_be_conserved(made, books, [saga]) == {"authorise": PRICE, "capture": PRICE}
        assert books.asked == ["create", "confirm", "capture"]


@pytest.mark.parametrize("coordination", COORDINATIONS)
@pytest.mark.parametrize(
    ("operation", "fault", "ends"),
    [
        ("capture", "expired", "COMPENSATED"),
        ("confirm", "lost", "SUCCEEDED"),
        ("capture", "lost", "SUCCEEDED"),
        ("capture", "twice", "SUCCEEDED"),
        ("capture", "after", "SUCCEEDED"),
    ],
)
def test_stripe_changes_its_mind_or_is_not_heard(
    operation: str, fault: str, ends: str, coordination: Coordination
) -> None:
    with striped() as (made, books):
        books.ask_for(operation, fault)
        saga = made.start(SAGA.name, ORDER, key="k", coordination=coordination)
        made.settle()
        assert bring_to_rest(made, SAGA, saga) == ends
        must_be_conserved(made, books, [saga])


@pytest.mark.parametrize("coordination", COORDINATIONS)
def test_a_capture_that_lands_after_the_saga_has_turned_back_is_refunded(
    coordination: Coordination,
) -> None:
    with striped() as (made, books):
        books.ask_for("capture", provider.HELD, times=99)

        def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
            if (task.get("step"), task.get("phase")) == ("card", "undo"):
                books.released.set()
                be_quiet(books)
            return run()

        made.mishap = mishap
        saga = made.start(SAGA.name, ORDER, key="k", coordination=coordination)
        made.settle()
        assert bring_to_rest(made, SAGA, saga) == "COMPENSATED"
        sums = must_be_conserved(made, books, [saga])
        assert sums == {"authorise": PRICE, "capture": PRICE, "refund": PRICE}
        row = made.row("cards", f"payment#{saga}")
        assert row is not None and row["status"] == "REFUNDED"


class Batch(test_random.Batch):
    """Card orders that are under way at the same time, with Stripe's faults besides."""

    def begin(self) -> None:
        coordination: Coordination = self.draw.choice(COORDINATIONS)
        faults = {}
        for target, fault in self.draw.sample(TARGETS, self.draw.choice([0, 0, 0, 1])):
            faults[target] = fault + self.draw.choice(["", *(f":{n}" for n in range(1, 5))])
        outside = None
        if self.draw.random() < 0.3:
            outside = (
                self.draw.choice(["abort", "cancel", "kill"]),
                self.draw.choice(["card", "capture"]),
                self.draw.choice(["action", "undo", "settle"]),
                self.draw.random() < 0.5,
            )
        theirs = self.draw.sample(FAULTS, self.draw.choice([0, 1, 1, 2]))
        times = self.draw.choice([1, 1, 4])
        books: Any = self.ground.books
        for operation, fault in theirs:
            books.ask_for(operation, fault, times=times, seconds=0.3)
            self.figures[f"{operation} {fault}"] += times
        body = ORDER | {"card": {"token": self.draw.choice(TOKENS)}}
        saga = self.ground.start(
            SAGA.name,
            body,
            key=f"random-{len(self.begun)}",
            faults=faults,
            coordination=coordination,
            run=False,
        )
        self.begun[saga] = (SAGA.name, coordination, faults, outside, body, theirs)
        if outside:
            self.mishaps[saga] = from_outside(self.ground, *outside)
        self.figures[coordination] += 1
        record = self.ground.ledger.get(saga)
        assert record is not None
        self.ground.runs.start(record)


@pytest.mark.parametrize("seed", range(BATCHES))
def test_money_is_conserved_with_stripe_in_the_loop(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    with striped() as (made, books):
        batch = Batch(made, random.Random(seed))

        def mishap(function: str, task: dict[str, Any], run: Callable[[], Any]) -> Any:
            own = batch.mishaps.get(task["saga"]["id"]) if "saga" in task else None
            return own(function, task, run) if own else run()

        made.mishap = mishap
        while len(batch.begun) < BATCH:
            batch.begin()
            for _ in range(4):
                batch.happen()
        books.recover()
        batch.bring_to_rest()
        be_quiet(books)
        batch.must_be_well()
        sums = must_be_conserved(made, books, list(batch.begun))
        ends = Counter(made.view(saga)["status"] for saga in batch.begun)
        for what, times in (ends + batch.figures + sums).items():
            record_property(what, times)
