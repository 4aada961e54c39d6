"""The inbox: what a consumer does for an event is done once, however often the event comes.

A row that names the event goes into the transaction that carries the effect, on the condition that
it is not there yet; so it is either both or neither. It is kept for as long as any queue, outbox or
dead-letter queue keeps the event itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recourse import events
from recourse.barrier import MarkerFound, transact, until_settled
from recourse.store.items import put_if_absent

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

BUDGET = 5
"""Seconds for which conflicts and throttles are retried; after that the message comes again."""


class Inbox:
    """The inbox of a consumer, in its own table.

    Args:
        dynamodb: A DynamoDB client.
        table: The table; rows that say when they expire go.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def once(self, event_id: str, *effect: TransactWriteItemTypeDef) -> bool:
        """Do what an event asks for, unless it was done before.

        Args:
            event_id: The event.
            effect: The writes, 99 at the most, as a transaction takes them.

        Returns:
            Whether it was done now.

        Raises:
            TransientError: DynamoDB could not do it now.
        """
        row = {"pk": f"inbox#{event_id}", "expires_at": events.expiry()}
        requests = [put_if_absent(self._table, row), *effect]
        try:
            until_settled(lambda: transact(self._dynamodb, requests), until=time.time() + BUDGET)
        except MarkerFound:
            return False
        return True
