"""The function of one step, which the state machine's tasks call."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from recourse.declare.limits import cut
from recourse.declare.step import Action, Document, Undo
from recourse.errors import WaitingError
from recourse.functions import settings
from recourse.run.failures import reported
from recourse.run.runner import StepRunner
from recourse.run.task import TaskRunner
from recourse.store.aws import client

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
metrics = Metrics()


@cache
def runner() -> TaskRunner:
    """The step that this function serves, by its environment."""
    action = settings.declared("ACTION", Action)
    if action is None:
        raise RuntimeError("the environment variable ACTION is not set")
    made = StepRunner(
        client("dynamodb"),
        settings.required("TABLE_NAME"),
        action,
        settings.declared("UNDO", Undo),
        store=store if action.documents else None,
        table_name=settings.table_name,
        timescale=settings.timescale(),
    )
    if not settings.chaos():
        return made
    from recourse.run.fault_injector import FaultInjector

    return FaultInjector(made)


def store(document: Document) -> None:
    """Put a document into the bucket, under its own key."""
    client("s3").put_object(
        Bucket=os.environ["DOCUMENTS_BUCKET"],
        Key=document.key,
        Body=document.body,
        ContentType=document.content_type,
    )


def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Run a task, and log and count its outcome."""
    return run(runner(), event | {"lasts": context.get_remaining_time_in_millis() / 1000})


def run(step: TaskRunner, task: dict[str, Any]) -> Any:
    """Run a task; errors are raised under the names that the state machine catches."""
    about = {
        "saga_id": task["saga"]["id"],
        "saga": task["saga"]["name"],
        "step": task["step"],
        "phase": task["phase"],
        "attempt": task.get("attempt", 0) + 1,
        "trace_id": task["saga"].get("traceparent", "")[3:35],
    }
    metrics.add_dimension(name="saga", value=about["saga"])
    metrics.add_dimension(name="step", value=about["step"])
    try:
        answer = step.run(task)
    except WaitingError as asked:
        logger.info(str(asked), extra=about | {"outcome": "asked"})
        metrics.add_metric(name=f"{task['phase']}.asked", unit=MetricUnit.Count, value=1)
        raise
    except Exception as problem:
        logger.warning(cut(str(problem)), extra=about | {"outcome": type(problem).__name__})
        metrics.add_metric(name=f"{task['phase']}.failed", unit=MetricUnit.Count, value=1)
        raise reported(problem) from None
    else:
        logger.info(f"{task['step']}: {task['phase']}", extra=about | {"outcome": "done"})
        metrics.add_metric(name=f"{task['phase']}.done", unit=MetricUnit.Count, value=1)
        return answer
    finally:
        metrics.flush_metrics()
