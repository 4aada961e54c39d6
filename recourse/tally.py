"""The tally: how many sagas began and ended, by day, saga and outcome; an operator's read model.

A day and a saga have one row, `tally#2026-11-24#travel-booking`, with a number for each outcome:
`started`, `succeeded`, `compensated`, `compensation_failed`. The day is that of the event, in UTC.
Each event is counted once. A saga that an operator has resolved has ended twice, and is counted as
both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recourse.inbox import Inbox

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

OUTCOMES = ("started", "succeeded", "compensated", "compensation_failed")


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
        return self._inbox.once(
            told["id"],
            {
                "Update": {
                    "TableName": self._table,
                    "Key": {"pk": {"S": f"tally#{told['time'][:10]}#{saga}"}},
                    "UpdateExpression": "ADD #outcome :one",
                    "ExpressionAttributeNames": {"#outcome": path[0]},
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                }
            },
        )
