"""The function of the parking state: records every step that needs an operator."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from recourse.functions import kit, settings
from recourse.run.parking import park
from recourse.run.task import number_of
from recourse.store.aws import client

logger = Logger()
metrics = Metrics()


def handler(event: dict[str, Any], context: object) -> list[str]:
    """Park the saga of a run."""
    types = park(
        client("dynamodb"),
        settings.required("LEDGER_TABLE"),
        kit.shapes().of(event["saga"]["name"], event["saga"].get("shape")),
        event,
        settings.timescale(),
        kit.refusals(),
    )
    about = {
        "saga_id": event["saga"]["id"],
        "saga": event["saga"]["name"],
        "step": ", ".join(sorted({what.split(".")[2] for what in types})),
        "attempt": number_of(event["saga"]) + 1,
        "trace_id": event["saga"].get("traceparent", "")[3:35],
    }
    logger.error("parked", extra=about | {"events": types})
    metrics.add_metric(name="Parked", unit=MetricUnit.Count, value=1)
    metrics.flush_metrics()
    return types
