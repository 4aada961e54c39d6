"""The probe's functions, which are deployed by the CDK context `probe=on` alone."""

from __future__ import annotations

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse.events import Event
from recourse.functions import kit, settings
from recourse.probe import Effects

logger = Logger()


@cache
def effects() -> Effects:
    """The table that this function commits to."""
    return Effects(kit.dynamodb(), settings.required("PROBE_TABLE"))


def pushed(event: dict[str, Any], context: Any) -> None:
    """Commit what SNS pushes; raise where that fails, for Lambda to try again."""
    for record in event["Records"]:
        effects().commit(Event.parse(record["Sns"]["Message"]), context.aws_request_id)


def pulled(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Commit a batch off a queue, and say which messages have to come again."""
    again = []
    for record in event["Records"]:
        try:
            effects().commit(Event.parse(record["body"]), context.aws_request_id)
        except Exception:
            logger.exception("not committed", extra={"message_id": record["messageId"]})
            again.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": one} for one in again]}
