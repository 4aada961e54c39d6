"""The feed's function: called with batches of the ledger's stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit
from recourse.feed import Feed
from recourse.items import decode_item
from recourse.projection import is_hidden

logger = Logger()


def handler(event: dict[str, Any], context: object) -> None:
    """Append what has entered the ledger; raise where that failed, for the stream to come again."""
    logger.info("fed", extra={"events": take(kit.feed(), event["Records"])})


def take(feed: Feed, records: Iterable[Mapping[str, Any]]) -> int:
    """Append the events of a batch to their owners' feeds; how many were new.

    A saga's row holds all of its events, so of several changes the last one says everything. Those
    that only move the ledger are nobody's to see.
    """
    sagas: dict[str, Mapping[str, Any]] = {}
    for record in records:
        image = record["dynamodb"].get("NewImage", {})
        if "entered" in image:
            sagas[image["pk"]["S"]] = image
    owners: dict[str, list[dict[str, Any]]] = {}
    for image in sagas.values():
        row = decode_item({name: image[name] for name in ("owner", "entered")})
        told = [one for one in row["entered"] if not is_hidden(one)]
        owners.setdefault(row["owner"], []).extend(told)
    return sum(feed.append(owner, told) for owner, told in owners.items())
