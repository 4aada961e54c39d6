"""The inbox: the effect of an event happens once, however often the event is delivered.

A row that names the event goes into the transaction that carries the effect, on the condition that
it does not exist yet; so both are written or neither. It is kept for as long as any queue, outbox
or dead-letter queue keeps the event itself.
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
"""Seconds for which conflicts and throttles are retried; after that the message is redelivered."""


class Inbox:
    """The inbox of a consumer, in its own table.

    ::

        inbox = Inbox(dynamodb, "tally")
        count = {
            "Update": {
                "TableName": "tally",
                "Key": {"pk": {"S": "today"}},
                "UpdateExpression": "ADD started :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }
        assert inbox.once(event.id, count)
        assert not inbox.once(event.id, count)  # it was counted before

    Args:
        dynamodb: A DynamoDB client.
        table: The table's name; its TTL attribute is `expires_at`.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def once(self, event_id: str, *effect: TransactWriteItemTypeDef) -> bool:
        """Write the effect of an event, unless it was written before.

        Args:
            event_id: The event's id.
            effect: The writes, 99 at the most, as `TransactWriteItems` takes them.

        Returns:
            Whether it was written now; False for a redelivery.

        Raises:
            TransientError: DynamoDB was busy for all of `BUDGET`; nothing was written.
        """
        backoff = Backoff(tries=None, until=time.time() + BUDGET)
        table = Table(self._dynamodb, self._table, backoff=backoff)
        row = {"pk": f"inbox#{event_id}", "expires_at": events.inbox_expiry()}
        requests = [table.put_request(row, when=ABSENT), *effect]
        try:
            table.retry(lambda: commit(table, requests), what=f"event {event_id}")
        except MarkerFound:
            return False
        return True
