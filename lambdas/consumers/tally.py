"""The tally: how many sagas began and ended, by day, saga and outcome; an operator's read model.

A day and a saga have `SHARDS` rows, `tally#2026-11-24#travel-booking#0` and so on, with a number
for each outcome: `started`, `succeeded`, `compensated`, `compensation_failed`; the tally is their
sum. The day is that of the event, in UTC. Each event is counted once. A saga that an operator has
resolved has ended twice, and is counted as both. `handle` also serves `recourse worker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from lambdas import kit, settings
from lambdas.batch import handle_each
from recourse.consumer import Consumer
from recourse.events import read
from recourse.inbox import Inbox
from recourse.listing import shard_of
from recourse.message import Message

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from types_boto3_dynamodb import DynamoDBClient

SHARDS = 64
"""How many rows share a day's counts of a saga, so that few writes at once meet in one; they may
become more, up to the 100 that DynamoDB reads in one call, and never fewer."""
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
        self._table = table
        self._inbox = Inbox(dynamodb, table)

    def count(self, told: Mapping[str, Any]) -> bool:
        """Count an event, if it is one that is counted and was not before; whether it was.

        Raises:
            TransientError: DynamoDB could not do it now.
        """
        _, saga, *path = told["type"].split(".")
        if len(path) != 1 or path[0] not in OUTCOMES:
            return False
        shard = shard_of(told["subject"], SHARDS)
        return self._inbox.once(
            told["id"],
            {
                "Update": {
                    "TableName": self._table,
                    "Key": {"pk": {"S": f"tally#{told['time'][:10]}#{saga}#{shard}"}},
                    "UpdateExpression": "ADD #outcome :one",
                    "ExpressionAttributeNames": {"#outcome": path[0]},
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                }
            },
        )


@cache
def tally() -> Tally:
    """The tally."""
    return Tally(kit.dynamodb(), settings.required("TALLY_TABLE"))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Count the events of a batch, and say which messages have to come again."""
    return handle_each(handle, event["Records"], kit.queue, context)


def handle(message: Message) -> None:
    """Count the event that a message is.

    Raises:
        UnreadableError: It is no event of a saga.
        TransientError: It could not be counted now.
    """
    tally().count(read(message.body, kit.sagas()))
