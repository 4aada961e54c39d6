"""The tally: how many sagas began and ended, by day, saga and outcome; an operator's read model.

Each day and saga has `SHARDS` rows, `tally#2026-11-24#travel-booking#0` and so on, with a number
for each outcome: `started`, `succeeded`, `compensated`, `compensation_failed`; the tally is their
sum. The day is that of the event, in UTC. Each event is counted once. A saga that an operator has
resolved ends twice, and both ends are counted. `recourse worker` can run `handle`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from recourse import Consumer, Message
from recourse.events import Event
from recourse.functions import kit, settings
from recourse.functions.batch import handle_each
from recourse.ledger.listing import shard_of
from recourse.queues.inbox import Inbox
from recourse.store.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from types_boto3_dynamodb import DynamoDBClient

SHARDS = 64
"""How many rows share a day's counts of a saga, so that few concurrent writes contend for one. The
number may be raised, up to the 100 that DynamoDB reads in one call, and must never be reduced."""
OUTCOMES = ("started", "succeeded", "compensated", "compensation_failed")
CONSUMER = Consumer(
    "Tally",
    hears={"kind": OUTCOMES},
    may={"table": ["dynamodb:PutItem", "dynamodb:UpdateItem"]},
)


class Tally:
    """The tally in its table.

    Args:
        dynamodb: A DynamoDB client.
        table: The table.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._table = Table(dynamodb, table)
        self._inbox = Inbox(dynamodb, table)

    def count(self, event: Event) -> bool:
        """Count an event if it is one of `OUTCOMES` and was not counted before.

        Returns:
            Whether it was counted now.

        Raises:
            TransientError: DynamoDB was busy or unreachable.
        """
        if event.step or event.kind not in OUTCOMES:
            return False
        shard = shard_of(event.saga_id, SHARDS)
        key = f"tally#{event.time[:10]}#{event.saga}#{shard}"
        return self._inbox.once(event.id, self._table.update_request(key, add={event.kind: 1}))


@cache
def tally() -> Tally:
    """The tally."""
    return Tally(kit.dynamodb(), settings.required("TALLY_TABLE"))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Count the events of a batch, and say which messages are to be retried."""
    return handle_each(handle, event["Records"], kit.queue, context)


def handle(message: Message) -> None:
    """Count the event in a message.

    Raises:
        UnreadableError: The message is not an event of a saga.
        TransientError: DynamoDB was busy or unreachable.
    """
    tally().count(message.event())
