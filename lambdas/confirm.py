"""The consumer that turns a service's holds into bookings once a saga's pivot has acted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit, settings
from lambdas.batch import Batch
from recourse.queues import SourceQueue
from recourse.runtime import StepRunner
from recourse.saga import Saga, Step

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Confirm what the sagas of a batch hold here, and say which messages have to come again."""
    return take(
        kit.dynamodb(),
        settings.required("TABLE_NAME"),
        settings.required("SERVICE"),
        kit.sagas(),
        event["Records"],
        kit.queue,
    )


def take(
    dynamodb: Any,
    table: str,
    service: str,
    sagas: Mapping[str, Saga],
    records: list[dict[str, Any]],
    queue: Callable[[str], SourceQueue],
) -> dict[str, Any]:
    """Confirm the holds of one service for the sagas of a batch of pivot events."""
    batch = Batch(records, sagas, queue)
    for record, told in batch.events():
        try:
            for step in sagas[told["type"].split(".")[1]].all:
                if step.confirm and step.service == service:
                    _confirm(dynamodb, table, step, told)
        except Exception as problem:
            logger.exception("not confirmed", extra={"message_id": record["messageId"]})
            batch.failed(record, problem)
    return batch.answer()


def _confirm(dynamodb: Any, table: str, step: Step, told: dict[str, Any]) -> None:
    runner = StepRunner(dynamodb, table, step.action, step.undo, step.confirm)
    saga = {
        "id": told["subject"],
        "name": told["type"].split(".")[1],
        "owner": "",
        "business_key": "",
        "started_at": told["time"],
    }
    task = {"step": step.name, "phase": "confirm", "role": "compensable"}
    outcome = runner.run(task | {"saga": saga, "request": {}, "results": {}})
    logger.info("confirmed", extra={"saga_id": saga["id"], "step": step.name} | outcome)
