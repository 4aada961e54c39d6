"""The ledger's function: takes events off its queue, in batches with partial failure."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from aws_lambda_powertools import Logger

from lambdas import kit
from recourse.ledger import Ledger

logger = Logger()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take a batch in: one read and one write a saga, whatever the number of its events."""
    return take(kit.ledger(), event["Records"])


def take(into: Ledger, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Take a batch in, and say which messages have to come again."""
    failed: list[str] = []
    sagas: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for record in records:
        try:
            told = json.loads(record["body"])
            sagas[told["subject"]].append((record["messageId"], told))
        except (ValueError, KeyError, TypeError):
            logger.exception("this is no event", extra={"message_id": record["messageId"]})
            failed.append(record["messageId"])
    for saga_id, messages in sagas.items():
        try:
            into.take(saga_id, [told for _, told in messages])
        except Exception:
            logger.exception("the events were not taken", extra={"saga_id": saga_id})
            failed += [message_id for message_id, _ in messages]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
