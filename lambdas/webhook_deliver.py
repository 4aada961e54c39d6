"""The function that delivers to webhooks: one message, one lane, one endpoint to wait for."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit, settings
from recourse.queues import SourceQueue
from recourse.step import TransientError
from recourse.webhooks.deliver import Deliverer
from recourse.webhooks.sending import Sender

LONGEST = 11 * 3600
"""Seconds for which SQS keeps a message away at the most, with an hour to spare."""
OFTEN, OLD = 500, 3 * 24 * 3600
"""Receives and seconds after which a message is sent anew: SQS counts the one and the other."""
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
    again: list[str] = []
    for record in records:
        receives = int(record["attributes"]["ApproximateReceiveCount"])
        about = {"message_id": record["messageId"], "receives": receives}
        try:
            asked = json.loads(record["body"])
            wait = by.deliver(asked["webhook_id"], asked["lane"], receives)
            if wait is not None and _is_worn(record, receives):
                send(**asked)
                wait = None
        except Exception:
            logger.exception("not delivered", extra=about)
            wait = min(AFTER_AN_ERROR, 2 ** min(receives, 10))
        if wait is not None:
            again.append(record["messageId"])
            try:
                queue(record["eventSourceARN"]).later(record, math.ceil(min(wait, LONGEST)))
            except TransientError as problem:
                logger.warning(str(problem), extra=about)
    return {"batchItemFailures": [{"itemIdentifier": one} for one in again]}


def _is_worn(record: dict[str, Any], receives: int) -> bool:
    """Whether SQS would soon set the message aside, or forget it."""
    age = time.time() - int(record["attributes"]["SentTimestamp"]) / 1000
    return receives >= OFTEN or age > OLD
