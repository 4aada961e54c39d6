"""The function behind the parking state: tells of every step that needs an operator."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from lambdas import kit, settings
from recourse.aws import client
from recourse.park import park

logger = Logger()
metrics = Metrics()


def handler(event: dict[str, Any], context: object) -> list[str]:
    """Park the saga of a run."""
    told = park(
        client("dynamodb"),
        settings.required("LEDGER_TABLE"),
        kit.sagas()[event["saga"]["name"]],
        event,
        settings.timescale(),
    )
    logger.error("parked", extra={"saga_id": event["saga"]["id"], "told": told})
    metrics.add_metric(name="Parked", unit=MetricUnit.Count, value=1)
    metrics.flush_metrics()
    return told
