"""Tables on moto: one with one key, one with two and an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest
from moto import mock_aws

from recourse.store.aws import client
from recourse.store.contention import Backoff
from recourse.store.expressions import PRESENT
from recourse.store.table import Table
from recourse.testing import comparing, speed, transactions
from recourse.testing.ground import ENVIRONMENT

NAME, SORTED = "things", "sorted"


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    """The client of what is made once."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", ENVIRONMENT))
        stack.enter_context(mock_aws())
        stack.enter_context(speed.up())
        stack.enter_context(transactions.true())
        stack.enter_context(comparing.by_type())
        made = client("dynamodb")
        made.create_table(
            TableName=NAME,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        made.create_table(
            TableName=SORTED,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "position", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "position", "AttributeType": "N"},
                {"AttributeName": "owner", "AttributeType": "S"},
                {"AttributeName": "started", "AttributeType": "S"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-owner",
                    "KeySchema": [
                        {"AttributeName": "owner", "KeyType": "HASH"},
                        {"AttributeName": "started", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield made


@pytest.fixture
def naps() -> list[float]:
    """How long was waited."""
    return []


@pytest.fixture
def table(dynamodb: Any, naps: list[float]) -> Table:
    """The table with one key."""
    return _empty(Table(dynamodb, NAME, backoff=Backoff(sleep=naps.append)))


@pytest.fixture
def in_order(dynamodb: Any, naps: list[float]) -> Table:
    """The table with two, and an index by owner."""
    return _empty(Table(dynamodb, SORTED, ("pk", "position"), Backoff(sleep=naps.append)))


def _empty(table: Table) -> Table:
    for row in list(table.scan({"pk": PRESENT})):
        names = (table.key,) if isinstance(table.key, str) else table.key
        key = tuple(row[name] for name in names)
        table.delete(key if len(key) > 1 else key[0])
    return table
