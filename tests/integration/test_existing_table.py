"""A step's decision writes a table that exists already, in the transaction of its own effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from recourse.declare.step import Call, Decision, Put, Update, action, confirm, undo
from recourse.declare.tables import ExistingTable
from recourse.errors import TransientError
from recourse.run.barrier import marker_key
from recourse.run.runner import StepRunner
from recourse.run.task import UndeclaredTableError
from recourse.store.items import decode_item, encode_item
from recourse.testing.calls import before, recorded
from tests.integration.bench import S1, S2, TABLE, Bench

ORDERS = ExistingTable("orders", key=("customer", "order_id"))
CHANGES = ExistingTable("order-changes", key="number")
NAMES = {ORDERS: "shop-orders", CHANGES: "order-changes"}
O7 = ("c1", "o7")


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What to bill."""

    wanted: int


@action(Bill, tables=[ORDERS, CHANGES], reads=lambda call: ["thing#1", ORDERS.row(*O7)])
def bill(call: Call[Bill]) -> Decision:
    thing, order = call.items
    assert thing is not None and order is not None
    total = order["total"] + call.ask.wanted
    return Decision(
        result={"total": total},
        writes=[
            Update("thing#1", add={"free": -call.ask.wanted}),
            Update(O7, put={"total": total}, when={"total": order["total"]}, table=ORDERS),
            Put({"number": order["total"], "saga": call.saga_id}, table=CHANGES),
        ],
    )


@undo(Bill, tables=[ORDERS], reads=lambda call: [ORDERS.row(*O7)])
def unbill(call: Call[Bill]) -> Decision:
    assert call.item is not None
    less = call.item["total"] - call.ask.wanted
    return Decision(
        writes=[
            Update("thing#1", add={"free": call.ask.wanted}),
            Update(O7, put={"total": less}, when={"total": call.item["total"]}, table=ORDERS),
        ]
    )


@confirm(tables=[ORDERS])
def close(call: Call) -> Decision:
    return Decision(writes=[Update(O7, put={"closed": True}, table=ORDERS)])


def make_table(bench: Bench, table: ExistingTable, kinds: str) -> None:
    names = table.key_names
    bench.dynamodb.create_table(
        TableName=NAMES[table],
        KeySchema=[
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(names, ("HASH", "RANGE"), strict=False)
        ],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in zip(names, kinds, strict=True)
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture
def shop(bench: Bench) -> Iterator[Bench]:
    """The bench beside tables that were there before it, one of which is called otherwise here."""
    make_table(bench, ORDERS, "SS")
    make_table(bench, CHANGES, "N")
    write_order(bench, total=10)
    bench.runner = runner(bench, bill, unbill, close)
    yield bench


def runner(bench: Bench, *parts: Any) -> StepRunner:
    return StepRunner(bench.dynamodb, TABLE, *parts, table_name=NAMES.__getitem__, **bench.time)


def write_order(bench: Bench, **changes: Any) -> None:
    """The row, with what others keep in it: nothing that our own rows would hold."""
    theirs = {"weight": {"N": "1.5"}, "seal": {"B": b"x"}, "sizes": {"NS": ["1", "2.5"]}}
    row = encode_item({"customer": "c1", "order_id": "o7", **changes}) | theirs
    bench.dynamodb.put_item(TableName=NAMES[ORDERS], Item=row)


def order(bench: Bench) -> dict[str, Any]:
    key = {"customer": {"S": "c1"}, "order_id": {"S": "o7"}}
    got = bench.dynamodb.get_item(TableName=NAMES[ORDERS], Key=key, ConsistentRead=True)
    return decode_item(got["Item"])


def changes(bench: Bench) -> list[dict[str, Any]]:
    return [decode_item(one) for one in bench.dynamodb.scan(TableName=NAMES[CHANGES])["Items"]]


def test_rows_of_both_tables_are_written_in_one_transaction_after_one_read(shop: Bench) -> None:
    with recorded() as calls:
        assert shop.ask() == {"total": 12}
    assert [call.operation for call in calls] == ["BatchGetItem", "TransactWriteItems"]
    assert (shop.free, order(shop)["total"]) == (3, 12)
    assert changes(shop) == [{"number": 10, "saga": S1}]
    assert order(shop)["sizes"] and order(shop)["seal"] == b"x", "what others keep there stays"


def test_a_duplicate_writes_neither_again(shop: Bench) -> None:
    assert shop.ask() == shop.ask() == {"total": 12}
    assert (shop.free, order(shop)["total"]) == (3, 12)


def test_what_must_not_be_there_and_is_keeps_both_tables_as_they_are(shop: Bench) -> None:
    row = encode_item({"number": 10, "saga": "another"})
    shop.dynamodb.put_item(TableName=NAMES[CHANGES], Item=row)
    with pytest.raises(TransientError, match="changed since it was read"):
        shop.ask()
    assert (shop.free, order(shop)["total"]) == (5, 10)
    assert changes(shop) == [{"number": 10, "saga": "another"}]
    assert shop.row(marker_key(S1, "hold", "action")) is None


def test_a_row_that_others_change_meanwhile_is_read_and_decided_again(shop: Bench) -> None:
    with before(lambda: write_order(shop, total=40)):
        assert shop.ask() == {"total": 42}
    assert (shop.free, order(shop)["total"]) == (3, 42)
    assert changes(shop) == [{"number": 40, "saga": S1}]


def test_an_undo_gives_back_in_both_tables_once(shop: Bench) -> None:
    shop.ask()
    assert shop.ask("undo") == shop.ask("undo") == {"outcome": "done"}
    assert (shop.free, order(shop)["total"]) == (5, 10)
    assert shop.ask("undo", S2) == {"outcome": "empty"}
    assert (shop.free, order(shop)["total"]) == (5, 10)


def test_a_confirmation_writes_the_table_too(shop: Bench) -> None:
    shop.ask()
    assert shop.ask("confirm", request={}) == {"outcome": "done"}
    assert order(shop)["closed"] is True


@pytest.mark.parametrize("phase", ["action", "undo", "confirm"])
def test_a_table_that_is_not_declared_is_neither_written_nor_read(shop: Bench, phase: str) -> None:
    def write(call: Call) -> Decision:
        return Decision(writes=[Update(O7, put={"total": 0}, table=ORDERS)])

    def look(call: Call) -> Decision:
        raise AssertionError("it was given what it must not read")

    if phase != "action":
        shop.ask()
    parts: dict[str, Any] = {"action": bill, "undo": unbill, "confirm": close}
    made: Any = {"action": action, "undo": undo, "confirm": confirm}[phase]
    for part in (made()(write), made(reads=lambda call: [ORDERS.row(*O7)])(look)):
        shop.runner = runner(shop, *(parts | {phase: part}).values())
        with pytest.raises(UndeclaredTableError, match=rf"'orders'.*declares none.*@{phase}"):
            shop.ask(phase)
    assert order(shop)["total"] == (10 if phase == "action" else 12)


def test_a_table_that_only_the_action_declares_is_not_its_undo_s(shop: Bench) -> None:
    @undo(tables=[CHANGES])
    def forget(call: Call) -> Decision:
        return Decision(writes=[Update(O7, put={"total": 0}, table=ORDERS)])

    shop.runner = runner(shop, bill, forget)
    shop.ask()
    with pytest.raises(UndeclaredTableError, match="declares order-changes"):
        shop.ask("undo")
