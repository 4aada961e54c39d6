"""What the workers of the process tests run."""

from __future__ import annotations

import os
import sys
from functools import cache

from recourse.queues.inbox import Inbox
from recourse.queues.message import Message
from recourse.store.aws import client

TABLE = "effects"


@cache
def inbox() -> Inbox:
    return Inbox(client("dynamodb"), TABLE)


def count(message: Message) -> None:
    """Count a message by its text, once; and stay with the one that is to be held."""
    inbox().once(
        message.body,
        {
            "Update": {
                "TableName": TABLE,
                "Key": {"pk": {"S": f"effect#{message.body}"}},
                "UpdateExpression": "ADD times :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        },
    )
    if message.body == os.environ.get("HOLD"):
        print("held", flush=True, file=sys.__stdout__)  # also where --json keeps stdout for itself
        sys.stdin.readline()
