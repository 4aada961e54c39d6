"""The function that sorts feeds into the lanes of webhooks, woken by the topic's messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit, settings
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
    return take(dispatcher(), event["Records"], later)


def take(
    into: Dispatcher, records: list[dict[str, Any]], later: Callable[..., None]
) -> dict[str, Any]:
    """Take a batch of wake-ups, and say which of them have to come again.

    Args:
        into: Sorts feeds into lanes.
        records: The wake-ups.
        later: Sends another one, for what there was no time or no room for.
    """
    until = time.monotonic() + ENOUGH
    wanted: dict[tuple[tuple[str, str], ...], list[str]] = {}
    again: list[str] = []
    for record in records:
        told = record["messageAttributes"]
        names = ("webhook_id", "replay_id") if "replay_id" in told else ("owner",)
        try:
            work = tuple((name, told[name]["stringValue"]) for name in names)
        except KeyError:
            logger.error("whose it is is not said", extra={"message_id": record["messageId"]})
            again.append(record["messageId"])
        else:
            wanted.setdefault(work, []).append(record["messageId"])
    for work, messages in wanted.items():
        try:
            if not _do(into, dict(work), until):
                later(**dict(work))
        except Exception:
            logger.exception("not sorted", extra=dict(work))
            again += messages
    return {"batchItemFailures": [{"itemIdentifier": one} for one in again]}


def _do(into: Dispatcher, work: dict[str, str], until: float) -> bool:
    def is_time() -> bool:
        return time.monotonic() < until

    if "owner" in work:
        return into.dispatch(work["owner"], is_time)
    return into.replay(work["webhook_id"], work["replay_id"], is_time)
