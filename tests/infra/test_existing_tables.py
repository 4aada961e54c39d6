"""The rights to a table that exists already follow from the declaration, and go no further."""

from __future__ import annotations

from pathlib import Path

import pytest

from recourse.declare.declaration import Step
from recourse.declare.request import request_model
from recourse.declare.saga import Saga
from recourse.declare.step import Call, Decision, action, confirm, undo
from recourse.declare.tables import ExistingTable
from tests.infra.assembly import Assembly, synthesise

pytestmark = pytest.mark.xdist_group("infra")

ORDERS = ExistingTable("orders", key=("customer", "order_id"))
CHANGES = ExistingTable("order-changes", key="number")
ARN = "arn:<AWS::Partition>:dynamodb:<AWS::Region>:<AWS::AccountId>:table/"
WRITES = {"dynamodb:PutItem", "dynamodb:UpdateItem"}
READS = {"dynamodb:BatchGetItem"}


@request_model
class Request:
    """An order of another system's."""

    order_id: str


@action(tables=[ORDERS], reads=lambda call: [ORDERS.row("c1", "o7")])
def bill(call: Call) -> Decision:
    return Decision()


@undo(tables=[ORDERS, CHANGES])
def unbill(call: Call) -> Decision:
    return Decision()


@confirm(tables=[CHANGES])
def close(call: Call) -> Decision:
    return Decision()


@action()
def pay(call: Call) -> Decision:
    return Decision()


SAGA = Saga(
    "bill",
    request=Request,
    business_key="order_id",
    steps=[Step("bill", bill, undo=unbill, confirm=close), Step("pay", pay, pivot=True)],
)
SERVICE = "Test_Existing_Tables"
STEP = "TestExistingTables"
LENT = {
    f"{STEP}Bill": {f"{ARN}prod-orders": WRITES | READS, f"{ARN}order-changes": WRITES},
    f"{STEP}BillQueue": {f"{ARN}prod-orders": WRITES | READS, f"{ARN}order-changes": WRITES},
    f"{SERVICE}Confirm": {f"{ARN}order-changes": WRITES},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder = tmp_path_factory.mktemp("existing")
    return synthesise(folder, {"table_orders": "prod-orders"}, {"bill": SAGA})


def test_each_function_may_do_in_it_just_what_its_part_declares(found: Assembly) -> None:
    assert found.findings() == []
    functions = {one.name: one for one in found.every("AWS::Lambda::Function")}
    assert functions.keys() > LENT.keys()
    for name, function in functions.items():
        rights = found.rights(function)
        of_tables = {one: rights[one] for one in rights if one.startswith(ARN)}
        assert of_tables == LENT.get(name, {}), name


def test_each_function_is_told_what_it_is_called_in_this_stage(found: Assembly) -> None:
    names = {"TABLE_ORDERS": "prod-orders", "TABLE_ORDER_CHANGES": "order-changes"}
    for name in (f"{STEP}Bill", f"{STEP}BillQueue"):
        told = found.environment(found.one("AWS::Lambda::Function", name))
        assert {one: told[one] for one in names} == names
    told = found.environment(found.one("AWS::Lambda::Function", f"{SERVICE}Confirm"))
    assert told["TABLE_ORDER_CHANGES"] == "order-changes" and "TABLE_ORDERS" not in told


def test_a_name_that_no_table_has_is_refused(tmp_path: Path) -> None:
    from recourse.cdk.stage import ContextError

    with pytest.raises(ContextError, match="table_orders='my orders' must be 3 to 255 letters"):
        synthesise(tmp_path, {"table_orders": "my orders"}, {"bill": SAGA})
