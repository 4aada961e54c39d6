"""Gap: moto's DynamoDB is not safe under threads, and its transactions are none.

It oversells (16 threads took 1280 of 1000); TransactWriteItems copies every table that it names,
once for each operation, and what it puts has reached the stream before a later condition fails.
Here every call is alone, and a transaction checks all conditions before it applies anything.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from moto.dynamodb.comparisons import get_filter_expression
from moto.dynamodb.exceptions import (
    MultipleTransactionsException,
    TooManyTransactionsException,
    TransactionCanceledException,
)
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.responses import DynamoHandler

from recourse.testing.patching import replaced


def _key(backend: Any, kind: str, operation: dict[str, Any]) -> dict[str, Any]:
    if kind != "Put":
        key: dict[str, Any] = operation["Key"]
        return key
    table = backend.get_table(operation["TableName"])
    names = filter(None, (table.hash_key_attr, table.range_key_attr))
    return {name: operation["Item"][name] for name in names}


def _failure(backend: Any, operation: dict[str, Any], key: dict[str, Any]) -> Any:
    """Why an operation's condition does not hold: (code, message, the row if asked for)."""
    condition = operation.get("ConditionExpression")
    if condition is None:
        return None, None, None
    current = backend.get_item(operation["TableName"], key)
    holds = get_filter_expression(
        condition,
        operation.get("ExpressionAttributeNames"),
        operation.get("ExpressionAttributeValues"),
    ).expr(current)
    if holds:
        return None, None, None
    shown = operation.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and current
    row = current.to_json()["Attributes"] if shown else None
    return "ConditionalCheckFailed", "The conditional request failed", row


def _transact(backend: Any, transact_items: list[dict[str, Any]]) -> None:
    """TransactWriteItems as AWS has it."""
    if len(transact_items) > 100:
        raise TooManyTransactionsException()
    operations = [next(iter(item.items())) for item in transact_items]
    keys = [_key(backend, kind, operation) for kind, operation in operations]
    named = {
        (operation["TableName"], str(sorted(key.items())))
        for (_, operation), key in zip(operations, keys, strict=True)
    }
    if len(named) < len(operations):
        raise MultipleTransactionsException()
    failures = [
        _failure(backend, operation, key)
        for (_, operation), key in zip(operations, keys, strict=True)
    ]
    if any(code for code, _, _ in failures):
        raise TransactionCanceledException(failures)
    for (kind, operation), key in zip(operations, keys, strict=True):
        table = operation["TableName"]
        if kind == "Put":
            backend.put_item(table, operation["Item"])
        elif kind == "Delete":
            backend.delete_item(table, key)
        elif kind == "Update":
            backend.update_item(
                table,
                key,
                update_expression=operation["UpdateExpression"],
                expression_attribute_names=operation.get("ExpressionAttributeNames"),
                expression_attribute_values=operation.get("ExpressionAttributeValues"),
            )


@contextmanager
def true() -> Iterator[AbstractContextManager[Any]]:
    """Every call alone, every transaction whole; yields the lock that each call holds.

    Usable by itself, within `moto.mock_aws`::

        with mock_aws(), transactions.true():
            boto3.client("dynamodb").transact_write_items(TransactItems=[...])
    """
    alone = threading.RLock()
    call_action = DynamoHandler.call_action

    def locked(handler: Any) -> Any:
        with alone:
            return call_action(handler)

    with (
        replaced(DynamoHandler, "call_action", locked),
        replaced(DynamoDBBackend, "transact_write_items", _transact),
    ):
        yield alone
