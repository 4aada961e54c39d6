"""The function that dispatches feeds to the lanes of webhooks, woken by the topic's messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse.errors import PoisonError
from recourse.functions import kit, settings
from recourse.functions.batch import Batch
from recourse.queues.sources import SourceQueue, log_fields
from recourse.webhooks.dispatch import Dispatcher

DISPATCH_SECONDS = 20
"""Seconds after which no further page is begun; another wake-up continues with the rest."""
CONTINUE_AFTER = 10
"""The delay of that wake-up, in seconds."""
logger = Logger()


@cache
def dispatcher() -> Dispatcher:
    """The dispatcher of feeds to lanes."""
    return Dispatcher(kit.feed(), kit.webhooks(), kit.wake(settings.required("WEBHOOK_LANES")))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Handle a batch of wake-ups; each owner's feed is read once."""
    later = kit.wake(settings.required("WEBHOOK_OWNERS"), delay=CONTINUE_AFTER)
    return handle_batch(dispatcher(), event["Records"], later, kit.queue)


def handle_batch(
    into: Dispatcher,
    records: list[dict[str, Any]],
    later: Callable[..., None],
    queue: Callable[[str], SourceQueue],
) -> dict[str, Any]:
    """Handle a batch of wake-ups, and say which are to be retried.

    Args:
        into: Dispatches feeds to lanes.
        records: The wake-ups.
        later: Sends another wake-up, for what there was no time or no room for.
        queue: Finds the queue that messages come from, by its ARN.
    """
    until = time.monotonic() + DISPATCH_SECONDS
    wanted: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    batch = Batch(records, queue)
    for record in records:
        attributes = record["messageAttributes"]
        names = ("webhook_id", "replay_id") if "replay_id" in attributes else ("owner",)
        try:
            work = tuple((name, attributes[name]["stringValue"]) for name in names)
        except KeyError:
            batch.dead_letter(record, PoisonError("it does not name an owner or a replay"))
        else:
            wanted.setdefault(work, []).append(record)
    for work, messages in wanted.items():
        try:
            if not _do(into, dict(work), until):
                later(messages[-1]["attributes"].get("MessageGroupId"), **dict(work))
        except Exception as problem:
            logger.exception("not dispatched", extra=log_fields(messages[-1]) | dict(work))
            for message in messages:
                batch.failed(message, problem)
    return batch.answer()


def _do(into: Dispatcher, work: dict[str, str], until: float) -> bool:
    def is_time() -> bool:
        return time.monotonic() < until

    if "owner" in work:
        return into.dispatch(work["owner"], is_time)
    return into.replay(work["webhook_id"], work["replay_id"], is_time)
