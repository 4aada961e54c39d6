"""The function that sorts feeds into the lanes of webhooks, woken by the topic's messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse.errors import PoisonError
from recourse.functions import kit, settings
from recourse.functions.batch import Batch
from recourse.queues.sources import SourceQueue
from recourse.webhooks.dispatch import Dispatcher

ENOUGH = 20
"""Seconds after which no other page is begun; another wake-up goes on with the rest."""
PAUSE = 10
"""Seconds until then."""
logger = Logger()


@cache
def dispatcher() -> Dispatcher:
    """What sorts feeds into lanes."""
    return Dispatcher(kit.feed(), kit.webhooks(), kit.wake(settings.required("WEBHOOK_LANES")))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take a batch of wake-ups, one look at each owner's feed whatever their number."""
    later = kit.wake(settings.required("WEBHOOK_OWNERS"), delay=PAUSE)
    return take(dispatcher(), event["Records"], later, kit.queue)


def take(
    into: Dispatcher,
    records: list[dict[str, Any]],
    later: Callable[..., None],
    queue: Callable[[str], SourceQueue],
) -> dict[str, Any]:
    """Take a batch of wake-ups, and say which of them have to come again.

    Args:
        into: Sorts feeds into lanes.
        records: The wake-ups.
        later: Sends another one, for what there was no time or no room for.
        queue: Finds the queue that messages come from, by its ARN.
    """
    until = time.monotonic() + ENOUGH
    wanted: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    batch = Batch(records, {}, queue)
    for record in records:
        told = record["messageAttributes"]
        names = ("webhook_id", "replay_id") if "replay_id" in told else ("owner",)
        try:
            work = tuple((name, told[name]["stringValue"]) for name in names)
        except KeyError:
            batch.dead_letter(record, PoisonError("it does not say whose feed it is about"))
        else:
            wanted.setdefault(work, []).append(record)
    for work, messages in wanted.items():
        try:
            if not _do(into, dict(work), until):
                later(**dict(work))
        except Exception as problem:
            logger.exception("not sorted", extra=dict(work))
            for message in messages:
                batch.failed(message, problem)
    return batch.answer()


def _do(into: Dispatcher, work: dict[str, str], until: float) -> bool:
    def is_time() -> bool:
        return time.monotonic() < until

    if "owner" in work:
        return into.dispatch(work["owner"], is_time)
    return into.replay(work["webhook_id"], work["replay_id"], is_time)
