"""The function that starts the sagas of a batch of an import, which their state machine calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import words
from recourse.errors import TransientError
from recourse.functions import kit
from recourse.imports.machine import reason
from recourse.ledger.record import Record
from recourse.run.failures import may_pass

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

MARGIN = 10
"""Seconds before its time-out at which the function starts no more runs, and ends."""

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Start the sagas of a batch; where it has failed as often as it is tried, note that.

    What is returned is kept by the Distributed Map for each of its items: nothing.

    Raises:
        TransientError: What may pass, under the one name by which the machine knows it.
    """
    import_id, number = event["import_id"], event["batch"]["number"]
    if failure := event.get("failure"):
        event = event | {"error": reason(failure)}
        about = {"import_id": import_id, "batch": number, "reason": event["error"]}
        logger.error("a batch is given up", extra=about)
    lasts = context.get_remaining_time_in_millis() / 1000 - MARGIN
    try:
        kit.import_starter(left_to_sweeper).start(event, lasts)
    except Exception as problem:
        if not may_pass(problem) or type(problem) is TransientError:
            raise
        raise TransientError(words(problem)) from problem
    return {}


def left_to_sweeper(record: Record, problem: BaseException) -> None:
    """Log that a saga is recorded and its run is not started."""
    logger.warning("not started: left to the sweeper: %s", problem, extra=record.log_fields)
