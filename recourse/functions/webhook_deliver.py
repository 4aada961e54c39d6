"""The function that delivers to webhooks: one message, one lane, one endpoint to wait for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse.errors import PoisonError
from recourse.functions import kit, settings
from recourse.functions.batch import Batch
from recourse.queues.sources import SourceQueue
from recourse.webhooks.deliver import Deliverer
from recourse.webhooks.sending import Sender

LONGEST = 11 * 3600
"""Seconds for which a message is put off at the most; SQS allows 12 hours."""
OFTEN, OLD = 500, 11.5 * 3600
"""Receives and seconds in which a message is worn out, and sent anew.

SQS dead-letters it after 1,000 receives, and forgets it after 14 days; and whether it counts the 12
hours from this receive or from the first, they are not over.
"""
AFTER_AN_ERROR = 600
logger = Logger()


@cache
def deliverer() -> Deliverer:
    """What delivers."""
    owners = settings.required("WEBHOOK_OWNERS")
    return Deliverer(
        kit.webhooks(),
        kit.feed(),
        Sender(loopback=settings.loopback()),
        lambda owner: kit.wake(owners)(owner=owner),
        timescale=settings.timescale(),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Deliver what is in lanes, and say which messages have to come again."""
    lanes = kit.wake(settings.required("WEBHOOK_LANES"))
    return take(deliverer(), event["Records"], kit.queue, lanes)


def take(
    by: Deliverer,
    records: list[dict[str, Any]],
    queue: Callable[[str], SourceQueue],
    send: Callable[..., None],
) -> dict[str, Any]:
    """Deliver what is in lanes, and say which messages have to come again."""
    batch = Batch(records, {}, queue)
    for record in records:
        receives = int(record["attributes"]["ApproximateReceiveCount"])
        about = {"message_id": record["messageId"], "receives": receives}
        try:
            asked = json.loads(record["body"])
            webhook, lane = asked["webhook_id"], asked["lane"]
        except (ValueError, LookupError, TypeError, RecursionError) as problem:
            poison = PoisonError(f"it does not say which lane it is about: {problem!r}")
            batch.dead_letter(record, poison)
            continue
        try:
            wait = by.deliver(webhook, lane, receives)
            if wait is not None and _is_worn(record, receives, by.webhooks.clock(), wait):
                send(**asked)
                wait = None
        except Exception:
            logger.exception("not delivered", extra=about)
            wait = min(AFTER_AN_ERROR, 2 ** min(receives, 10))
        if wait is not None:
            batch.again(record, math.ceil(min(wait, LONGEST)))
    return batch.answer()


def _is_worn(record: dict[str, Any], receives: int, now: float, wait: float) -> bool:
    """Whether a message is not to be put off any more."""
    age = now - int(record["attributes"]["SentTimestamp"]) / 1000
    return receives >= OFTEN or age + min(wait, LONGEST) > OLD
