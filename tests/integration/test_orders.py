"""Orders on the ground: as large as a transaction, and more of them than there is stock."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from recourse.errors import Refusal
from recourse.run.runner import StepRunner
from services import inventory
from services.inventory import MOST_SKUS
from statemachines import SAGAS
from tests.ground import Ground
from tests.integration.test_every_saga import must_add_up

SAGA = SAGAS["order"]
PRICE = {"amount": 100, "currency": "INR"}
SKUS = [f"sku-{number}" for number in range(MOST_SKUS + 1)]


@pytest.fixture(scope="module")
def shop(bare: Ground) -> Ground:
    for sku in SKUS:
        bare.put("stock", sku, {"total": 100, "price": PRICE})
    bare.put("accounts", "acct-asha", {"currency": "INR", "balance": 10**9})
    return bare


def request(*skus: str) -> dict[str, Any]:
    return {
        "order_id": "o-1",
        "customer": {"name": "Asha Rao", "email": "asha@example.com"},
        "lines": [{"sku": sku, "quantity": 1} for sku in skus],
        "payment": {"account_id": "acct-asha"},
    }


def ended(ground: Ground, key: str, *skus: str, **faults: str) -> dict[str, Any]:
    saga_id = ground.start(SAGA.name, request(*skus), key=key, faults=faults)
    ground.settle()
    must_add_up(ground)
    return ground.view(saga_id)


def counts(ground: Ground, sku: str) -> tuple[int, int, int]:
    shown = ground.held("stock", sku)
    return shown["available"], shown["held"], shown["confirmed"]


def test_the_largest_order_fits_its_action_its_confirmation_and_its_invoice(shop: Ground) -> None:
    before = counts(shop, "sku-0")
    view = ended(shop, "largest", *SKUS[:MOST_SKUS])
    assert view["status"] == "SUCCEEDED"
    assert counts(shop, "sku-0") == (before[0] - 1, before[1], before[2] + 1)
    invoice = shop.row("invoices", f"invoice#{view['saga_id']}")
    assert invoice is not None and invoice["amount"] == {"amount": 9500, "currency": "INR"}
    assert [line["text"] for line in invoice["lines"]] == SKUS[:MOST_SKUS]


def test_the_largest_order_fits_the_undo_that_also_tells_of_the_failure(shop: Ground) -> None:
    before = counts(shop, "sku-0")
    view = ended(shop, "crashed", *SKUS[:MOST_SKUS], inventory="crash")
    assert view["status"] == "COMPENSATED"
    assert counts(shop, "sku-0") == before
    told = [
        json.loads(row["event"])["data"]
        for row in shop.rows("inventory", f"outbox#{view['saga_id']}")
    ]
    undone = next(data for data in told if "follows" in data)
    assert undone["follows"] == ["done", "failed"], "it was the undo that told of the failure"


def test_an_order_that_no_transaction_holds_is_refused_before_anything_is_reserved(
    shop: Ground,
) -> None:
    before = counts(shop, "sku-0")
    view = ended(shop, "too-many", *SKUS)
    assert view["status"] == "COMPENSATED"
    assert view["reason"] == {
        "step": "inventory",
        "error": "TooManyLinesError",
        "message": "an order must have at most 95 different skus, got 96",
    }
    assert counts(shop, "sku-0") == before


def test_one_line_that_cannot_be_had_leaves_the_others_alone(shop: Ground) -> None:
    before = counts(shop, "sku-0")
    view = ended(shop, "unknown", "sku-0", "sofa")
    assert (view["status"], view["reason"]["error"]) == ("COMPENSATED", "UnknownSkuError")
    assert counts(shop, "sku-0") == before


def test_scarce_stock_is_never_oversold_nor_reserved_in_part(shop: Ground) -> None:
    scarce = {"red": 5, "green": 7, "blue": 20}
    for sku, total in scarce.items():
        shop.put("stock", sku, {"total": total, "price": PRICE})
    pairs = [("red", "green"), ("green", "blue"), ("blue", "red"), ("green", "red", "blue")]
    runner = StepRunner(
        shop.dynamodb, "inventory", inventory.reserve, inventory.release, inventory.book
    )

    def ask(number: int) -> str:
        saga = {"id": f"{number:032x}", "name": "order", "owner": "asha"}
        saga |= {"business_key": "o", "started_at": "2026-01-01T00:00:00.000Z"}
        lines = request(*pairs[number % len(pairs)])["lines"]
        task = {"saga": saga, "step": "inventory", "phase": "action", "role": "compensable"}
        try:
            runner.run(task | {"request": {"lines": lines}, "results": {}})
        except Refusal as no:
            return type(no).__name__
        return "reserved"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(32)))
    assert set(answers) == {"reserved", "StockUnavailableError"}
    held: Counter[str] = Counter()
    for number, answer in enumerate(answers):
        booking = shop.row("inventory", f"booking#{number:032x}#inventory")
        assert (booking is not None) == (answer == "reserved")
        if booking:
            assert booking["things"] == {f"item#{sku}": 1 for sku in pairs[number % len(pairs)]}
            held.update(pairs[number % len(pairs)])
    for sku, total in scarce.items():
        assert counts(shop, sku) == (total - held[sku], held[sku], 0)
    must_add_up(shop)
    gone = {sku for sku, total in scarce.items() if held[sku] == total}
    assert all(gone & set(pair) for pair in pairs), "none was refused that could be had"
