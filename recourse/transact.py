"""Transactions that give way to each other, and say which conditions did not hold."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recourse.store.items import decode_item

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

TRIES = 12
"""How often a transaction is tried again that has met another one."""


class Contended(Exception):
    """A transaction was cancelled by a condition.

    Attributes:
        rows: By the position of each operation whose condition failed, the row as it was.
    """

    def __init__(self, rows: Mapping[int, dict[str, Any] | None]) -> None:
        super().__init__(f"operations {sorted(rows)}")
        self.rows = rows


def transact(
    dynamodb: DynamoDBClient,
    operations: Sequence[TransactWriteItemTypeDef],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write all of it or nothing; try again where another write is under way.

    Raises:
        Contended: A condition does not hold.
        TimeoutError: Others have been in the way all the time.
    """
    for attempt in range(TRIES):
        try:
            dynamodb.transact_write_items(TransactItems=operations)
            return
        except dynamodb.exceptions.TransactionCanceledException as cancelled:
            reasons: list[Any] = cancelled.response["CancellationReasons"]
            failed = {
                at: decode_item(reason["Item"]) if reason.get("Item") else None
                for at, reason in enumerate(reasons)
                if reason.get("Code") == "ConditionalCheckFailed"
            }
            if failed:
                raise Contended(failed) from None
        sleep(secrets.randbelow(10 + 10 * 2**attempt) / 1000)
    raise TimeoutError(f"others were in the way {TRIES} times in a row")
