"""The inbox: what a consumer does for an event is done once, however often the event comes.

A row that names the event goes into the transaction that carries the effect, on the condition that
it is not there yet; so it is either both or neither. It is kept for as long as any queue, outbox or
dead-letter queue keeps the event itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from recourse import events
from recourse.run.barrier import MarkerFound, commit
from recourse.store.contention import Backoff
from recourse.store.expressions import ABSENT
from recourse.store.table import Table

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
        backoff = Backoff(tries=None, until=time.time() + BUDGET)
        table = Table(self._dynamodb, self._table, backoff=backoff)
        row = {"pk": f"inbox#{event_id}", "expires_at": events.expiry()}
        requests = [table.put_request(row, when=ABSENT), *effect]
        try:
            table.retry(lambda: commit(table, requests), what=f"event {event_id}")
        except MarkerFound:
            return False
        return True
