"""The sweeper's function: called on a schedule, and by the end of a run that went wrong."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from lambdas import kit, settings
from recourse.sweeper import Sweeper
from statemachines import SAGAS

logger = Logger()
metrics = Metrics()


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Look after one saga, or after every unfinished one; what was done, by saga id."""
    name = event.get("detail", {}).get("name")
    sweeper = Sweeper(kit.ledger(), kit.runs(), SAGAS, timescale=settings.timescale())
    done = sweeper.after(name) if name else sweeper.sweep()
    for saga_id, what in done.items():
        logger.warning(what, extra={"saga_id": saga_id})
    metrics.add_metric(name="Swept", unit=MetricUnit.Count, value=len(done))
    metrics.flush_metrics()
    return done
