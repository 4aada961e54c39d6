"""What is declared of a table that exists already, and what is refused of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from recourse.declare.declaration import Step
from recourse.declare.request import request_model
from recourse.declare.saga import Saga, collect
from recourse.declare.step import Call, Decision, Put, Update, action, confirm, undo
from recourse.declare.tables import ExistingTable, Row
from recourse.errors import DeclarationError
from recourse.functions import settings

ORDERS = ExistingTable("orders", key=("customer", "order_id"))
OTHERWISE = ExistingTable("orders", key="order_id")
ALIKE = ExistingTable("Orders", key=("customer", "order_id"))
LEGACY = ExistingTable("Legacy.old-orders_1", key="number")


@request_model
class Request:
    order_id: str


@action(tables=[ORDERS])
def bill(call: Call) -> Decision:
    return Decision()


@undo(tables=[ORDERS])
def unbill(call: Call) -> Decision:
    return Decision()


@undo(tables=[OTHERWISE])
def unbill_otherwise(call: Call) -> Decision:
    return Decision()


@confirm(tables=[ALIKE])
def close_alike(call: Call) -> Decision:
    return Decision()


@action(tables=ORDERS)  # type: ignore[arg-type]
def bare(call: Call) -> Decision:
    return Decision()


@action(tables=["orders"])  # type: ignore[list-item]
def by_name(call: Call) -> Decision:
    return Decision()


@action(tables=[LEGACY])
def pay(call: Call) -> Decision:
    return Decision()


@action(tables=[OTHERWISE])
def pay_otherwise(call: Call) -> Decision:
    return Decision()


def declare(name: str, *steps: Step) -> Saga:
    return Saga(name, request=Request, business_key="order_id", steps=steps)


BILL, PAY = Step("bill", bill, undo=unbill), Step("pay", pay, pivot=True)


@pytest.mark.parametrize("name", ["", "ab", "a" * 256, "my orders", "ordérs", "orders/1", 7, None])
def test_a_name_that_dynamodb_has_not_is_refused(name: Any) -> None:
    with pytest.raises(DeclarationError, match=rf"3 to 255 letters.*got {re.escape(repr(name))}"):
        ExistingTable(name, key="id")


@pytest.mark.parametrize(
    "key", ["", "k" * 256, (), ("a", "a"), ("a", "b", "c"), ["a", "b"], ("a", 7), 7, None]
)
def test_a_key_that_dynamodb_has_not_is_refused(key: Any) -> None:
    with pytest.raises(DeclarationError, match="key of the existing table 'orders' must be"):
        ExistingTable("orders", key=key)


def test_a_name_that_would_hide_the_service_s_own_table_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"'Name'.*TABLE_NAME is the service's own"):
        ExistingTable("Name", key="id")


def test_a_row_is_named_by_every_part_of_its_key() -> None:
    assert ORDERS.row("c1", "o7") == Row(ORDERS, ("c1", "o7"))
    assert LEGACY.row(7) == Row(LEGACY, 7)
    for key in ((), ("c1",), ("c1", "o7", "x"), ("c1", True), ("c1", None), ("c1", 1.5)):
        with pytest.raises(ValueError, match=r"row of 'orders'.*customer and order_id.*got \("):
            ORDERS.row(*key)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: Put({"customer": "c1"}, table=ORDERS), "row of 'orders'.*customer and order_id"),
        (lambda: Put({"pk": "o7"}, table=LEGACY), "row of 'Legacy.old-orders_1'.*number"),
        (lambda: Put({"customer": "c1", "order_id": "o7"}), "own table.*'pk'.*got None.*table="),
        (lambda: Update("c1", table=ORDERS), "row of 'orders'.*customer and order_id"),
        (lambda: Update(("c1", "o7"), table=LEGACY), "row of 'Legacy.old-orders_1'.*number"),
        (lambda: Update(("c1", "o7")), "own table.*'pk'.*got .'c1', 'o7'.*table="),
        (lambda: Update(7), "own table.*'pk'.*got 7"),
    ],
)
def test_a_write_that_does_not_name_its_row_is_refused(write: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Step("bill", bare, undo=unbill), PAY], "'bill'.*tables of .*:bare must be a list of"),
        ([Step("bill", by_name, undo=unbill), PAY], r"'bill'.*ExistingTable, got \['orders'\]"),
        (
            [Step("bill", bill, undo=unbill_otherwise), PAY],
            r"'bill'.*'orders' must have one key, got 'order_id' here and \('customer', 'order_id'",
        ),
        (
            [Step("bill", bill, undo=unbill, confirm=close_alike), PAY],
            "'bill'.*'Orders' must have a name of its own.*'orders'.*TABLE_ORDERS",
        ),
        ([BILL, Step("pay", pay_otherwise, pivot=True)], "'pay' of 'shop'.*'orders'.*one key"),
    ],
)
def test_what_could_not_be_told_apart_is_refused_when_a_saga_is_built(
    steps: list[Step], message: str
) -> None:
    with pytest.raises(DeclarationError, match=message):
        declare("shop", *steps)


def test_two_sagas_that_declare_a_table_with_other_keys_are_refused() -> None:
    one = declare("one", BILL, PAY)
    two = declare("two", Step("pay", pay_otherwise, pivot=True))
    assert set(collect(one)) == {"one"} and set(collect(two)) == {"two"}
    with pytest.raises(DeclarationError, match=r"'pay' of 'two'.*'orders' must have one key"):
        collect(one, two)


def test_a_function_is_told_what_a_table_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LEGACY.variable == "TABLE_LEGACY_OLD_ORDERS_1"
    assert settings.table_name(LEGACY) == "Legacy.old-orders_1"
    monkeypatch.setenv("TABLE_LEGACY_OLD_ORDERS_1", "orders-of-1998")
    assert settings.table_name(LEGACY) == "orders-of-1998"
