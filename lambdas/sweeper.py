"""The sweeper's function: called on a schedule, and by the end of a run that went wrong."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from lambdas import settings
from recourse.aws import client
from recourse.ledger import Ledger
from recourse.runs import Runs
from recourse.sweeper import Sweeper
from statemachines import SAGAS

logger = Logger()
metrics = Metrics()


@cache
def sweeper() -> Sweeper:
    """The sweeper that the environment describes."""
    return Sweeper(
        Ledger(client("dynamodb"), settings.required("LEDGER_TABLE"), SAGAS),
        Runs(
            client("stepfunctions"),
            client("lambda", read_timeout=30),
            SAGAS,
            json.loads(settings.required("STATE_MACHINES")),
            json.loads(settings.required("PIVOTS")),
        ),
        SAGAS,
        timescale=settings.timescale(),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Look after one saga, or after every unfinished one; what was done, by saga id."""
    name = event.get("detail", {}).get("name")
    done = sweeper().after(name) if name else sweeper().sweep()
    for saga_id, what in done.items():
        logger.warning(what, extra={"saga_id": saga_id})
    metrics.add_metric(name="Swept", unit=MetricUnit.Count, value=len(done))
    metrics.flush_metrics()
    return done
