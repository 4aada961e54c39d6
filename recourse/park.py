"""Parking: a saga that needs an operator says so, and rests where everybody can see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recourse import events
from recourse.items import encode_item
from recourse.runtime import TRANSIENT, understand
from recourse.saga import Saga

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


def park(
    dynamodb: DynamoDBClient, table: str, saga: Saga, task: Mapping[str, Any], timescale: float
) -> list[str]:
    """Tell of every step that is stuck.

    Args:
        dynamodb: A DynamoDB client.
        table: The ledger's table, whose outbox tells of it.
        saga: The declaration.
        task: `saga` as in every task, and `parked`: what was caught, by step or group.
        timescale: What multiplies time-outs.

    Returns:
        The types of the events.
    """
    run = task["saga"]
    told = []
    for caught_by, caught in task["parked"].items():
        name, failure = caught_by, caught
        if name not in saga.by_name:
            name, failure = caught["Error"], json.loads(caught["Cause"])
        step = saga.by_name[name]
        error = understand(failure, step.timeout * timescale)
        undone = saga.role(name) == "compensable"
        target = f"{name}.undo" if undone else name
        transient = failure["Error"] in TRANSIENT or undone or saga.role(name) == "retriable"
        tries = saga.retry(step).attempts if transient else 1
        told.append(
            events.event(
                run["id"],
                saga.name,
                "undo_failed" if undone else "failed",
                step=name,
                occasion=f"r{run['recover']}",
                outcome="parked",
                error=error,
                attempts=tries + run["attempts"].get(target, 0),
                run=run["recover"],
                early=bool(run["recover"]),
            )
        )
    dynamodb.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": table, "Item": encode_item(events.outbox_row(one))}}
            for one in told
        ]
    )
    return [one["type"] for one in told]
