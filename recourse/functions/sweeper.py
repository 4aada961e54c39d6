"""The sweeper's function: called on a schedule, and when a run fails."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from recourse.functions import kit, settings
from recourse.store.aws import client

logger = Logger()
metrics = Metrics()


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Heal one saga, or every unfinished one; what was done, by saga id.

    Raises:
        ExceptionGroup: Some sagas could not be checked; all the others were.
        MessagesWaitError: Messages wait in a dead-letter queue that has no alarm of its own.
    """
    sweeper, run = kit.sweeper(alarm, passed_over), event.get("detail", {})
    if "name" in run:
        done = sweeper.handle_run_end(run["name"], run["status"], run.get("error"))
    else:
        done = sweeper.sweep()
    for saga_id, what in done.items():
        logger.warning(what, extra={"saga_id": saga_id})
    if done:  # a metric that says 0 each minute costs as much as one that says something
        metrics.add_metric(name="Swept", unit=MetricUnit.Count, value=len(done))
        metrics.flush_metrics()
    if "time" in event and datetime.fromisoformat(event["time"]).minute % kit.WATCH_INTERVAL == 0:
        kit.check_watched(passed_over)
    return done


def alarm(saga_id: str, why: str) -> None:
    """Alert the people on call about a saga that cannot be healed."""
    logger.error("not healed: %s", why, extra={"saga_id": saga_id})
    client("sns").publish(
        TopicArn=settings.required("ALARMS_TOPIC_ARN"),
        Subject="A saga needs attention",
        Message=f"Saga {saga_id}: {why}. See docs/operations.md, 'A saga that cannot be healed'.",
    )


def passed_over(queue: str, since: datetime) -> None:
    """Log that a queue is out of reach, as it may be while a deploy is under way."""
    logger.warning(
        "a queue is out of reach: passed over while a deploy may keep it so",
        extra={"queue": queue, "since": since.isoformat()},
    )
