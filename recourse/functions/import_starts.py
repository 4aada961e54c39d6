"""The function that starts the sagas of a batch of an import, which their state machine calls."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from recourse.functions import kit
from recourse.imports.machine import reason
from recourse.ledger.record import Record

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Start the sagas of a batch; where it has failed as often as it is tried, note that.

    What is returned is kept by the Distributed Map for each of its items: nothing.
    """
    import_id, number = event["import_id"], event["batch"]["number"]
    if failure := event.get("failure"):
        event = event | {"error": reason(failure)}
        about = {"import_id": import_id, "batch": number, "reason": event["error"]}
        logger.error("a batch is given up", extra=about)
    kit.import_starter(left_to_sweeper).start(event)
    return {}


def left_to_sweeper(record: Record, problem: Exception) -> None:
    """Log that a saga is recorded and its run is not started."""
    logger.warning("not started: left to the sweeper: %s", problem, extra=record.log_fields)
