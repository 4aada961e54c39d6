"""The function of one step in a choreography: takes events off the step's queue, in batches."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from lambdas import kit, settings
from lambdas.step import runner
from recourse.aws import client
from recourse.listener import Heard, Listener

logger = Logger()
metrics = Metrics()


@cache
def listener() -> Listener:
    """The listener of the step that this function serves, by its environment."""
    return Listener(
        settings.required("FUNCTION"),
        runner(),
        kit.sagas(),
        client("dynamodb"),
        settings.required("TABLE_NAME"),
        kit.queue,
        timescale=settings.timescale(),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take a batch, and say which messages have to come again."""
    heard = listener().take(event["Records"])
    for outcome, count in Counter(one.outcome for one in heard).items():
        metrics.add_metric(name=f"heard.{outcome}", unit=MetricUnit.Count, value=count)
    metrics.flush_metrics()
    return answer(heard, _end)


def answer(heard: list[Heard], end: Callable[[], None]) -> dict[str, Any]:
    """Log how a batch went, and say which messages have to come again.

    Lambda freezes a process between two batches. A thread that hangs would go on within the next
    one, when somebody else may be at its message already.

    Args:
        heard: How each message went.
        end: Ends the process, which then answers for nothing; called where a thread hangs.
    """
    for one in heard:
        about = {"message_id": one.message_id, "saga_id": one.saga_id, "outcome": one.outcome}
        if one.error:
            logger.warning(one.error, extra=about)
        else:
            logger.info("heard", extra=about)
    if any(one.hangs for one in heard):
        end()
    again = [one.message_id for one in heard if one.outcome == "again"]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}


def _end() -> None:
    sys.stdout.flush()
    os._exit(1)
