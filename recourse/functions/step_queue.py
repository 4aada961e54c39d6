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

from recourse.choreography.listener import Listener, MessageResult
from recourse.functions import kit, settings
from recourse.functions.step import runner
from recourse.store.aws import client

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
    results = listener().handle_batch(event["Records"])
    for outcome, count in Counter(one.outcome for one in results).items():
        metrics.add_metric(name=f"heard.{outcome}", unit=MetricUnit.Count, value=count)
    metrics.flush_metrics()
    return answer(results, _end)


def answer(results: list[MessageResult], end: Callable[[], None]) -> dict[str, Any]:
    """Log how a batch went, and say which messages have to come again.

    Lambda freezes a process between two batches. A thread that hangs would go on within the next
    one, when somebody else may be at its message already.

    Args:
        results: How each message went.
        end: Ends the process, which then answers for nothing; called where a thread hangs.
    """
    for one in results:
        about = {"message_id": one.message_id, "saga_id": one.saga_id, "outcome": one.outcome}
        if one.error:
            logger.warning(one.error, extra=about)
        else:
            logger.info("heard", extra=about)
    if any(one.hangs for one in results):
        end()
    again = [one.message_id for one in results if one.outcome == "again"]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}


def _end() -> None:
    sys.stdout.flush()
    os._exit(1)
