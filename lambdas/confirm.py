"""The consumer that turns a service's holds into bookings once a saga's pivot has acted."""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit, settings
from recourse.runtime import StepRunner
from recourse.saga import Step
from statemachines import SAGAS

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Confirm what the sagas of a batch hold here, and say which messages have to come again."""
    return take(
        kit.dynamodb(),
        settings.required("TABLE_NAME"),
        settings.required("SERVICE"),
        event["Records"],
    )


def take(dynamodb: Any, table: str, service: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Confirm the holds of one service for the sagas of a batch of pivot events."""
    failed = []
    for record in records:
        try:
            told = json.loads(record["body"])
            saga = SAGAS[told["type"].split(".")[1]]
            for step in saga.all:
                if step.confirm and step.service == service:
                    _confirm(dynamodb, table, step, told)
        except Exception:
            logger.exception("not confirmed", extra={"message_id": record["messageId"]})
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


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
