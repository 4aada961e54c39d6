"""The function of one step in a choreography: it handles events off the step's queue."""

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
from recourse.choreography.tries import longest
from recourse.functions import kit, settings
from recourse.functions.step import runner
from recourse.store.aws import client

logger = Logger()
metrics = Metrics()


@cache
def listener() -> Listener:
    """The listener of the step that this function serves, by its environment."""
    function = settings.required("FUNCTION")
    return Listener(
        function,
        runner(),
        kit.shapes(),
        client("dynamodb"),
        settings.required("TABLE_NAME"),
        kit.queue,
        budget=longest(function, kit.deployed()),
        timescale=settings.timescale(),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Handle a batch, and say which messages are to be retried."""
    results = listener().handle_batch(event["Records"])
    for outcome, count in Counter(one.outcome for one in results).items():
        metrics.add_metric(name=f"heard.{outcome}", unit=MetricUnit.Count, value=count)
    metrics.flush_metrics()
    return answer(results, _end)


def answer(results: list[MessageResult], end: Callable[[], None]) -> dict[str, Any]:
    """Log a batch's results, and say which messages are to be retried.

    Lambda freezes a process between two batches. A thread that hangs would continue during the next
    batch, when another process may be handling its message already.

    Args:
        results: The result of each message.
        end: Ends the process, so that the whole batch is retried; called where a thread hangs.
    """
    for one in results:
        about = {**one.about, "outcome": one.outcome}
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
