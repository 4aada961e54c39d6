"""Inventory's rules: every line of an order or none, in one transaction that its undo fits too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.ids import SagaId
from recourse.declare.money import CurrencyMismatchError
from recourse.declare.step import MOST_WRITES, Call, Decision, Item, Update
from services import counted, inventory, invoices
from services.inventory import MOST_SKUS, Line, ReserveAsk
from tests.prices import money
from tests.unit.test_services import CALL, SAGA, apply

SKUS = ("kettle", "mug", "pan")


def item(sku: str, available: int = 10, price: int = 100, currency: str = "INR") -> Item:
    counts = {"total": available, "available": available, "held": 0, "confirmed": 0}
    key = counted.thing_key("item", sku)
    return {"pk": key, "id": sku, "price": money(price, currency)} | counts


def order(*lines: tuple[str, int], saga_id: SagaId = SAGA) -> Call[ReserveAsk]:
    wanted = [Line(sku=sku, quantity=quantity) for sku, quantity in lines]
    about: Any = replace(CALL, saga_id=saga_id, saga="order", step="inventory")
    call: Call[ReserveAsk] = replace(about, ask=ReserveAsk(lines=wanted))
    return call


def reserve(rows: dict[str, Item], call: Call[ReserveAsk]) -> Decision:
    """Decide on the rows as they are, as the runtime does."""
    keys = inventory.reserve.reads(call)
    return inventory.reserve(replace(call, items=[rows.get(str(key)) for key in keys]))


def turn(rows: dict[str, Item], move: Any, call: Call[ReserveAsk]) -> Decision:
    decision: Decision = move(replace(call, items=[rows[counted.booking_key(call)]]))
    return decision


def stock(*items: Item) -> dict[str, Item]:
    return {row["pk"]: row for row in items}


def test_an_order_costs_the_sum_of_price_times_quantity() -> None:
    rows = stock(item("kettle", price=1899), item("mug", price=349))
    decision = reserve(rows, order(("kettle", 1), ("mug", 4)))
    assert decision.result == {
        "booking_id": f"booking#{SAGA}#inventory",
        "quantity": 5,
        "price": money(1899 + 4 * 349, "INR"),
        "lines": [
            {"sku": "kettle", "quantity": 1, "price": money(1899, "INR")},
            {"sku": "mug", "quantity": 4, "price": money(4 * 349, "INR")},
        ],
    }
    apply(rows, decision)
    assert [
        (rows[f"item#{sku}"]["available"], rows[f"item#{sku}"]["held"]) for sku in SKUS[:2]
    ] == [
        (9, 1),
        (6, 4),
    ]
    booking = rows[f"booking#{SAGA}#inventory"]
    assert booking["things"] == {"item#kettle": 1, "item#mug": 4}
    assert (booking["status"], booking["owner"]) == ("HELD", "asha")


def test_lines_of_the_same_sku_are_added_up() -> None:
    rows = stock(item("mug", available=5))
    call = order(("mug", 2), ("mug", 3))
    assert list(inventory.reserve.reads(call)) == ["item#mug"]
    apply(rows, reserve(rows, call))
    assert (rows["item#mug"]["available"], rows["item#mug"]["held"]) == (0, 5)
    with pytest.raises(inventory.StockUnavailableError, match="item mug has fewer than 6"):
        reserve(stock(item("mug", available=5)), order(("mug", 2), ("mug", 4)))


def test_an_unknown_sku_too_few_in_stock_and_mixed_currencies_are_refused() -> None:
    rows = stock(item("kettle"), item("mug", available=1), item("pan", currency="EUR"))
    refused = [
        (("kettle", 1), ("sofa", 1), inventory.UnknownSkuError),
        (("kettle", 1), ("mug", 2), inventory.StockUnavailableError),
        (("kettle", 1), ("pan", 1), CurrencyMismatchError),
    ]
    for one, other, why in refused:
        assert why in inventory.reserve.refuses
        with pytest.raises(why):
            reserve(rows, order(one, other))


def test_as_many_skus_as_a_transaction_holds_are_reserved_and_one_more_is_refused() -> None:
    skus = [f"sku-{number}" for number in range(MOST_SKUS + 1)]
    rows = stock(*map(item, skus))
    call = order(*((sku, 1) for sku in skus[:-1]), ("sku-0", 1))
    decision = reserve(rows, call)
    assert len(decision.writes) == MOST_WRITES
    apply(rows, decision)
    for move in (inventory.release, inventory.book):
        assert len(turn(rows, move, call).writes) == MOST_WRITES
    with pytest.raises(inventory.TooManyLinesError, match="at most 95 different skus, got 96"):
        inventory.reserve.reads(order(*((sku, 1) for sku in skus)))
    assert inventory.TooManyLinesError in inventory.reserve.refuses


def test_a_decision_that_no_transaction_holds_cannot_be_made() -> None:
    writes = [Update(f"row#{number}", add={"n": 1}) for number in range(MOST_WRITES + 1)]
    assert len(Decision(writes=writes[1:]).writes) == MOST_WRITES
    with pytest.raises(ValueError, match="97 writes"):
        Decision(writes=writes)


LINES = st.lists(st.tuples(st.sampled_from(SKUS), st.integers(1, 4)), min_size=1, max_size=5)
MOVES = st.lists(
    st.one_of(LINES, st.sampled_from([inventory.release, inventory.book])), max_size=15
)


@given(MOVES, st.data())
def test_any_mix_of_orders_releases_and_bookings_keeps_the_counts_right(
    moves: list[Any], data: Any
) -> None:
    rows = stock(*(item(sku) for sku in SKUS))
    held: dict[SagaId, dict[str, int]] = {}
    booked: dict[str, int] = dict.fromkeys(SKUS, 0)
    for number, move in enumerate(moves):
        if isinstance(move, list):
            wanted = {sku: sum(n for one, n in move if one == sku) for sku, _ in move}
            free = {sku: rows[f"item#{sku}"]["available"] for sku in wanted}
            call = order(*move, saga_id=SagaId(f"{number:032x}"))
            if all(free[sku] >= quantity for sku, quantity in wanted.items()):
                apply(rows, reserve(rows, call))
                held[call.saga_id] = wanted
            else:
                with pytest.raises(inventory.StockUnavailableError):
                    reserve(rows, call)
        elif held:
            saga_id = data.draw(st.sampled_from(sorted(held)))
            apply(rows, turn(rows, move, order(saga_id=saga_id)))
            gone = held.pop(saga_id)
            if move is inventory.book:
                for sku, quantity in gone.items():
                    booked[sku] += quantity
        for sku in SKUS:
            row = rows[f"item#{sku}"]
            reserved = sum(wanted.get(sku, 0) for wanted in held.values())
            assert (row["held"], row["confirmed"]) == (reserved, booked[sku])
            assert row["total"] == row["available"] + row["held"] + row["confirmed"] == 10
            assert row["available"] >= 0


def test_an_invoice_lists_each_line_of_an_order() -> None:
    rows = stock(item("kettle", price=1899), item("mug", price=349))
    result = reserve(rows, order(("kettle", 1), ("mug", 4))).result
    rows = {}
    apply(rows, invoices.issue(replace(CALL, results={"inventory": result})))
    assert rows[f"invoice#{SAGA}"]["amount"] == result["price"]
    assert rows[f"invoice#{SAGA}"]["lines"] == [
        {"text": "kettle", "quantity": 1, "price": money(1899, "INR")},
        {"text": "mug", "quantity": 4, "price": money(1396, "INR")},
    ]


def test_an_invoice_of_single_things_has_a_line_for_each_step() -> None:
    rows: dict[str, Item] = {}
    results = {
        "flight": {"price": money(9, "INR"), "quantity": 2},
        "fee": {"price": money(1, "INR")},
    }
    apply(rows, invoices.issue(replace(CALL, results=results | {"car": None})))
    assert rows[f"invoice#{SAGA}"]["lines"] == [
        {"text": "flight", "quantity": 2, "price": money(9, "INR")},
        {"text": "fee", "quantity": 1, "price": money(1, "INR")},
    ]


def test_a_long_invoice_goes_on_on_further_pages() -> None:
    lines = [{"sku": f"sku-{n}", "quantity": 1, "price": money(n, "INR")} for n in range(MOST_SKUS)]
    price = money(sum(range(MOST_SKUS)), "INR")
    call = replace(CALL, results={"inventory": {"price": price, "lines": lines}})
    (first,), (again,) = invoices.issue(call).documents, invoices.issue(call).documents
    assert first.body == again.body
    assert first.body.count(b"/Type /Page\n") > 1
