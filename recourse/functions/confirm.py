"""The consumer that confirms a service's holds once a saga's pivot has completed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger

from recourse.declare.declaration import Step, with_functions
from recourse.errors import UnreadableError
from recourse.events import Event
from recourse.functions import kit, settings
from recourse.functions.batch import Batch
from recourse.ledger.shapes import Shapes
from recourse.queues.sources import SourceQueue, log_fields
from recourse.run.runner import StepRunner

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Confirm the holds of a batch's sagas, and say which messages are to be retried."""
    return handle_batch(
        kit.dynamodb(),
        settings.required("TABLE_NAME"),
        settings.required("SERVICE"),
        kit.shapes(),
        event["Records"],
        kit.queue,
    )


def handle_batch(
    dynamodb: Any,
    table: str,
    service: str,
    shapes: Shapes,
    records: list[dict[str, Any]],
    queue: Callable[[str], SourceQueue],
) -> dict[str, Any]:
    """Confirm the holds of one service for the sagas of a batch of pivot events."""
    batch = Batch(records, queue)
    for record, event in batch.events():
        about = log_fields(record)
        try:
            for step in shapes.of_event(event).all:
                if step.confirms and step.service == service:
                    about["step"] = step.name
                    outcome = _confirm(dynamodb, table, with_functions(step), event)
                    logger.info("confirmed", extra=about | outcome)
        except UnreadableError as problem:
            batch.dead_letter(record, problem)
        except Exception as problem:
            logger.exception("not confirmed", extra=about)
            batch.failed(record, problem)
    return batch.answer()


def _confirm(dynamodb: Any, table: str, step: Step, event: Event) -> dict[str, Any]:
    runner = StepRunner(
        dynamodb, table, step.action, step.undo, step.confirm, table_name=settings.table_name
    )
    saga = {
        "id": event.saga_id,
        "name": event.saga,
        "owner": "",
        "business_key": "",
        "started_at": event.time,
        "traceparent": event.traceparent,
    }
    task = {"step": step.name, "phase": "confirm", "role": "compensable"}
    outcome: dict[str, Any] = runner.run(task | {"saga": saga, "request": {}, "results": {}})
    return outcome
