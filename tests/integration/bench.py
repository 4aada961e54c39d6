"""A step on its own, on moto's DynamoDB, for tests of its runtime."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import botocore.session
from moto import mock_aws

from recourse.declare.ids import SagaId
from recourse.declare.step import AtLeast, Call, Decision, Put, Update, action, confirm, undo
from recourse.errors import Refusal
from recourse.run.fault_injector import FaultInjector
from recourse.run.runner import StepRunner
from recourse.run.task import TaskRunner
from recourse.store.items import decode_item, encode_item
from recourse.testing import speed, transactions

TABLE = "things"
S1, S2 = (SagaId.of("shop", "o", name) for name in ("one", "two"))


class SoldOutError(Refusal):
    pass


@dataclass(frozen=True, kw_only=True)
class Ask:
    """How many of the things are wanted."""

    wanted: int


@action(Ask, reads=lambda call: ["thing#1"], refuses=[SoldOutError])
def hold(call: Call[Ask]) -> Decision:
    assert call.item is not None
    wanted = call.ask.wanted
    if call.item["free"] < wanted:
        raise SoldOutError(f"fewer than {wanted} are free")
    return Decision(
        result={"wanted": wanted},
        writes=[
            Update("thing#1", add={"free": -wanted}, when={"free": AtLeast(wanted)}),
            Put({"pk": f"hold#{call.saga_id}", "wanted": wanted, "status": "HELD"}),
        ],
    )


@undo(reads=lambda call: [f"hold#{call.saga_id}"])
def release(call: Call) -> Decision:
    assert call.item is not None and call.item["wanted"] == call.result["wanted"]
    return Decision(
        writes=[
            Update(call.item["pk"], put={"status": "RELEASED"}, when={"status": "HELD"}),
            Update("thing#1", add={"free": call.item["wanted"]}),
        ]
    )


@confirm(reads=lambda call: [f"hold#{call.saga_id}"])
def book(call: Call) -> Decision:
    assert call.item is not None
    return Decision(
        writes=[Update(call.item["pk"], put={"status": "BOOKED"}, when={"status": "HELD"})]
    )


@dataclass
class Bench:
    """A step on its own, with what a test asks of it."""

    dynamodb: Any
    naps: list[float] = field(default_factory=list)
    begun: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.runner: TaskRunner = FaultInjector(
            StepRunner(self.dynamodb, TABLE, hold, release, book, **self.time)
        )

    def nap(self, seconds: float) -> None:
        """Note how long would have been slept; what never ends fails here."""
        self.naps.append(seconds)
        assert len(self.naps) < 1000, "it is tried for ever"

    @property
    def time(self) -> dict[str, Any]:
        """A clock that naps alone move on, and naps that take no time."""
        return {"sleep": self.nap, "clock": lambda: self.begun + sum(self.naps)}

    def ask(
        self,
        phase: str = "action",
        saga_id: str = S1,
        runner: TaskRunner | None = None,
        **changes: Any,
    ) -> Any:
        of_saga = {"chaos", "recover", "skips", "attempts"}
        saga = {
            "id": saga_id,
            "name": "shop",
            "owner": "o",
            "business_key": "b",
            "started_at": "2026-01-01T00:00:00.000Z",
        } | {name: value for name, value in changes.items() if name in of_saga}
        task: dict[str, Any] = {
            "saga": saga,
            "step": "hold",
            "phase": phase,
            "role": "compensable",
            "request": {"wanted": 2},
            "results": {},
        }
        task |= {name: value for name, value in changes.items() if name not in of_saga}
        return (runner or self.runner).run(task)

    def row(self, key: str) -> dict[str, Any] | None:
        got = self.dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": key}}, ConsistentRead=True)
        return decode_item(got["Item"]) if "Item" in got else None

    @property
    def free(self) -> int:
        found = self.row("thing#1")
        assert found is not None
        return int(found["free"])

    def told(self) -> dict[str, dict[str, Any]]:
        """The data of every event in the outbox, by the end of its id."""
        rows = (decode_item(item) for item in self.dynamodb.scan(TableName=TABLE)["Items"])
        found = (json.loads(row["event"]) for row in rows if row["pk"].startswith("outbox#"))
        return {one["id"].partition(".")[2]: one["data"] for one in found}


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench with five things on it, for the length of a block."""
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    environment = mock.patch.dict("os.environ", keys | {"AWS_DEFAULT_REGION": "us-east-1"})
    with environment, mock_aws(), speed.up(), transactions.true():
        dynamodb: Any = botocore.session.get_session().create_client("dynamodb")
        dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        dynamodb.put_item(TableName=TABLE, Item=encode_item({"pk": "thing#1", "free": 5}))
        yield Bench(dynamodb)
