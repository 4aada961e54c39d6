"""The function that records and begins the sagas of a batch, which an import's machine calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from recourse.declare.limits import words
from recourse.errors import TransientError
from recourse.functions import kit
from recourse.imports.machine import LONGEST_WAIT, reason
from recourse.ledger.record import Record
from recourse.run.failures import may_pass

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from recourse.imports.start import Starter

MARGIN = 10
"""Seconds before its time-out at which the function starts no more runs, and ends."""

logger = Logger()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record the sagas of a batch, or begin them.

    Args:
        event: The `import_id`, its `run`, the `batch`, and the `phase`: `start` to record, or
            `begin`. For the former a `failure`, where the batch has failed as often as it is tried:
            that is noted. For the latter what this has returned the last time, as `waits`.
        context: What Lambda says of the call.

    Returns:
        When beginning, after how many `seconds` there may be room for the others; 0 if all have
        begun. What is returned is kept by the Distributed Map for each of its items: nothing else.

    Raises:
        TransientError: What may pass, under the one name by which the machine knows it.
    """
    import_id, number = event["import_id"], event["batch"]["number"]
    if failure := event.get("failure"):
        event = event | {"error": reason(failure)}
        about = {"import_id": import_id, "batch": number, "reason": event["error"]}
        logger.error("a batch is given up", extra=about)
    lasts = context.get_remaining_time_in_millis() / 1000 - MARGIN
    starter, phase = kit.import_starter(left_to_sweeper), event.get("phase")
    try:
        if phase == "begin":
            return {"seconds": _begin(starter, event, lasts)}
        starter.start(event)
        if phase is None:  # by the machine of a release before, which has no other phase
            starter.begin(event, lasts)
    except Exception as problem:
        if not may_pass(problem) or type(problem) is TransientError:
            raise
        raise TransientError(words(problem)) from problem
    return {}


def _begin(starter: Starter, event: dict[str, Any], lasts: float) -> int:
    """Begin sagas of a batch; seconds after which there may be room for the others.

    Where there has been none for as long as it waits at the most, one begins all the same: what
    else their owner has in flight never keeps an import out for good.
    """
    waited = event["waits"]["seconds"]
    at_least = 1 if waited >= LONGEST_WAIT else 0
    begun = starter.begin(event, lasts, at_least=at_least)
    if not begun.left:
        return 0
    return 1 if begun.now > at_least else min(max(1, waited * 2), LONGEST_WAIT)


def left_to_sweeper(record: Record, problem: BaseException) -> None:
    """Log that a saga is recorded and could not begin, or its run could not be started."""
    logger.warning("not begun: left to the sweeper: %s", problem, extra=record.log_fields)
