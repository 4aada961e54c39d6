"""The function that delivers to webhooks: one message for one lane of one endpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse.errors import PoisonError
from recourse.events import Event, message_group
from recourse.functions import kit, settings
from recourse.functions.batch import Batch
from recourse.queues.sources import SourceQueue, log_fields, log_fields_of
from recourse.store.contention import InvalidItemError
from recourse.text import read_json
from recourse.webhooks.attempts import Attempt
from recourse.webhooks.deliver import Deliverer
from recourse.webhooks.lanes import Lane
from recourse.webhooks.sending import Sender

LONGEST_DELAY = 11 * 3600
"""Seconds for which a message is delayed at most; SQS allows 12 hours."""
MOST_RECEIVES, OLDEST = 500, 11.5 * 3600
"""Receives, and age in seconds, after which a message is replaced by a new one.

SQS dead-letters it after 1,000 receives and drops it after 14 days; and its limit of 12 hours of
visibility is kept whether it counts from this receive or from the first.
"""
LONGEST_BACKOFF = 600
logger = Logger()


@cache
def deliverer() -> Deliverer:
    """The deliverer."""
    owners = settings.required("WEBHOOK_OWNERS")
    return Deliverer(
        kit.webhooks(),
        kit.feed(),
        Sender(loopback=settings.loopback()),
        lambda owner: kit.wake(owners)(message_group(owner), owner=owner),
        timescale=settings.timescale(),
        log=log_attempt,
    )


def log_attempt(lane: Lane, event: Event | None, attempt: Attempt) -> None:
    """Log an attempt to deliver an event, by its number; why it failed is its owner's to read."""
    about = _about(lane) | {"event": attempt.type, "attempt": attempt.attempt}
    about |= {"outcome": attempt.outcome, "status": attempt.status}
    if event:
        about |= log_fields_of(event)
    if attempt.outcome == "delivered":
        logger.info("delivered", extra=about)
    else:
        logger.warning(attempt.outcome, extra=about)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Deliver the events of lanes, and say which messages are to be retried."""
    lanes = kit.wake(settings.required("WEBHOOK_LANES"))
    return handle_batch(deliverer(), event["Records"], kit.queue, lanes)


def handle_batch(
    by: Deliverer,
    records: list[dict[str, Any]],
    queue: Callable[[str], SourceQueue],
    send: Callable[..., None],
) -> dict[str, Any]:
    """Deliver the events of lanes, and say which messages are to be retried."""
    batch = Batch(records, queue)
    for record in records:
        receives = int(record["attributes"]["ApproximateReceiveCount"])
        try:
            asked = read_json(record["body"])
            webhook, lane = asked["webhook_id"], asked["lane"]
            if not (isinstance(webhook, str) and isinstance(lane, str)):
                raise TypeError("its webhook and its lane must be texts")
        except (ValueError, LookupError, TypeError) as problem:
            poison = PoisonError(f"it does not name a lane: {problem!r}")
            batch.dead_letter(record, poison)
            continue
        about = _about(Lane(webhook_id=webhook, lane=lane))
        try:
            wait = by.deliver(webhook, lane, receives)
            if wait is not None and _is_worn_out(record, receives, by.webhooks.clock(), wait):
                send(record["attributes"].get("MessageGroupId"), **asked)
                wait = None
        except InvalidItemError as problem:
            batch.dead_letter(record, problem, about)
            continue
        except Exception:
            logger.exception("not delivered", extra=log_fields(record) | about)
            wait = min(LONGEST_BACKOFF, 2 ** min(receives, 10))
        if wait is not None:
            batch.retry(record, math.ceil(min(wait, LONGEST_DELAY)))
    return batch.answer()


def _about(lane: Lane) -> dict[str, Any]:
    """What the log has of a lane: all that is known where no event was read."""
    saga = {"saga_id": lane.subject} if lane.subject else {}
    return {"webhook_id": lane.webhook_id, "lane": lane.lane} | saga


def _is_worn_out(record: dict[str, Any], receives: int, now: float, wait: float) -> bool:
    """Whether a message must be replaced rather than delayed."""
    age = now - int(record["attributes"]["SentTimestamp"]) / 1000
    return receives >= MOST_RECEIVES or age + min(wait, LONGEST_DELAY) > OLDEST
