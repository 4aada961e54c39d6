"""docs/migrate.md: its machine loses what the page says, and its saga loses nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from recourse.testing import handlers
from tests.patience import until
from tests.testing import projects

PAGE = (projects.ROOT / "docs" / "migrate.md").read_text()
NAMES = {
    "TakeItem": "take_item",
    "ChargeCard": "charge_card",
    "SendParcel": "send_parcel",
    "MailReceipt": "mail_receipt",
    "RefundCard": "refund_card",
    "ReturnItem": "return_item",
}
ORDER = {"order_id": "o-1", "sku": "tea", "card": "visa"}


def block(path: str) -> str:
    """The block of code that follows the name of its file."""
    after = PAGE[PAGE.index(f"`{path}`") :]
    found = re.search(r"^```\w+\n(.*?)^```$", after, re.M | re.S)
    assert found
    return found[1]


class Old:
    """The machine of the page on moto, with functions that may be disturbed."""

    def __init__(self) -> None:
        self.books: dict[str, int] = {}
        self.sent: list[str] = []
        self.functions = ModuleType("old_functions")
        exec(block("old/functions.py"), vars(self.functions))
        dynamodb = boto3.resource("dynamodb", "us-east-1")
        self.stock = dynamodb.create_table(
            TableName="stock",
            KeySchema=[{"AttributeName": "sku", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "sku", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.stock.put_item(Item={"sku": "tea", "pieces": 10})

    def charge(self, key: str, card: str, amount: int) -> bool:
        """As a provider does."""
        self.books[key] = amount
        return True

    def cancel(self, key: str) -> None:
        """As a provider does."""
        self.books[key] = 0

    @property
    def free(self) -> int:
        """How many are left."""
        return int(self.stock.get_item(Key={"sku": "tea"})["Item"]["pieces"])

    def run(self, name: str = "purchase", **disturbed: Callable[[Callable[[], Any]], Any]) -> str:
        """An execution to its end: its status."""
        machine = block("old/purchase.asl.json")
        for one in NAMES:
            machine = machine.replace(f"${{{one}}}", handlers.arn(one))

        def function(one: str) -> Callable[[dict[str, Any]], Any]:
            called = getattr(self.functions, NAMES[one])

            def handle(event: dict[str, Any]) -> Any:
                def act() -> Any:
                    if one == "SendParcel":
                        self.sent.append(event["order_id"])
                    return called(event, self.stock, self)

                return disturbed[NAMES[one]](act) if NAMES[one] in disturbed else act()

            return handle

        with handlers.registered({one: function(one) for one in NAMES}):
            sfn = boto3.client("stepfunctions", "us-east-1")
            role = f"arn:aws:iam::{handlers.ACCOUNT}:role/any"
            made = sfn.create_state_machine(name=name, definition=machine, roleArn=role)
            arn = sfn.start_execution(
                stateMachineArn=made["stateMachineArn"], input=json.dumps(ORDER)
            )["executionArn"]
            return str(
                until(
                    lambda: (
                        (status := sfn.describe_execution(executionArn=arn)["status"]) != "RUNNING"
                        and status
                    ),
                    "the end of the execution",
                )
            )


def unheard(act: Callable[[], Any]) -> Any:
    """Act, and be too late to say so."""
    act()
    raise TimeoutError


def fail(act: Callable[[], Any]) -> Any:
    """Fail before anything is done."""
    raise ConnectionError("no route")


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        yield Old()


def test_where_nothing_goes_wrong_the_old_machine_sells(old: Old) -> None:
    assert old.run() == "SUCCEEDED"
    assert (old.free, [*old.books.values()], old.sent) == (9, [4900], ["o-1"])


@pytest.mark.parametrize(
    ("disturbed", "free", "paid", "sent"),
    [
        pytest.param({"charge_card": unheard}, 9, 4900, 0, id="the charge's answer is lost"),
        pytest.param({"take_item": unheard}, 9, 0, 0, id="the item's answer is lost"),
        pytest.param({"mail_receipt": fail}, 10, 0, 1, id="the receipt cannot be mailed"),
        pytest.param(
            {"send_parcel": fail, "refund_card": fail}, 9, 4900, 0, id="the refund fails once"
        ),
    ],
)
def test_the_old_machine_loses_what_the_page_says(
    old: Old, disturbed: dict[str, Any], free: int, paid: int, sent: int
) -> None:
    assert old.run(**disturbed) == "FAILED"
    assert (old.free, sum(old.books.values()), len(old.sent)) == (free, paid, sent)


def test_an_order_that_is_sent_twice_is_charged_twice_by_the_old_machine(old: Old) -> None:
    assert [old.run(), old.run("again")] == ["SUCCEEDED"] * 2
    assert sum(old.books.values()) == 2 * 4900 and len(old.sent) == 2


FILES = ("shop/items.py", "shop/card.py", "shop/parcels.py", "shop/sagas.py", "shop/provider.py")


def test_the_saga_of_the_page_loses_nothing_whatever_disturbs_it(tmp_path: Path) -> None:
    made = {path: block(path) for path in FILES}
    made["checks_of_the_shop.py"] = block("tests/sagas.py")
    settings = PAGE[PAGE.index("samples/purchase.json") :]
    (sample,) = re.findall(r"^with `samples/purchase.json`, `(.*)`", PAGE, re.M)
    (told,) = re.findall(r"^```toml\n(.*?)^```$", settings, re.M | re.S)
    told = told.replace("tests.sagas", "checks_of_the_shop")  # `tests` are those of this project
    made |= {"samples/purchase.json": sample, "pyproject.toml": told, "shop/__init__.py": ""}
    projects.write(tmp_path, files=made)
    ran = projects.pytest_in(tmp_path, "--sagas", "--sagas-examples=3")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
