"""The function that sorts feeds into the lanes of webhooks, woken by the topic's messages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit, settings
from recourse.webhooks.dispatch import Dispatcher

ENOUGH = 20
"""Seconds after which no other page is begun; what is left comes again."""
logger = Logger()


@cache
def dispatcher() -> Dispatcher:
    """What sorts feeds into lanes."""
    lanes = settings.required("WEBHOOK_LANES")
    return Dispatcher(kit.feed(), kit.webhooks(), kit.wake(lanes))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take a batch of wake-ups, one look at each owner's feed whatever their number."""
    return take(dispatcher(), event["Records"])


def take(into: Dispatcher, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Take a batch of wake-ups, and say which of them have to come again."""
    until = time.monotonic() + ENOUGH
    wanted: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        wanted.setdefault(_work(record["messageAttributes"]), []).append(record["messageId"])
    again: list[str] = []
    for work, messages in wanted.items():
        try:
            if not _do(into, work, until):
                again += messages
        except Exception:
            logger.exception("not sorted", extra={"work": work})
            again += messages
    return {"batchItemFailures": [{"itemIdentifier": one} for one in again]}


def _work(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """What a message asks for: an owner's feed, or a replay of a webhook's."""
    if "replay_id" in attributes:
        return tuple(attributes[name]["stringValue"] for name in ("webhook_id", "replay_id"))
    return (attributes["owner"]["stringValue"],)


def _do(into: Dispatcher, work: tuple[str, ...], until: float) -> bool:
    def is_time() -> bool:
        return time.monotonic() < until

    if len(work) == 1:
        return into.dispatch(work[0], is_time)
    webhook_id, replay_id = work
    return into.replay(webhook_id, replay_id, is_time)
