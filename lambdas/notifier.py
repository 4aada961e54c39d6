"""The notifier: SNS pushes the endings of sagas to it, and it tells the people whose they are."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from recourse.events import Event
from recourse.functions import kit, settings
from recourse.notifier import Message, Notifier
from recourse.store.aws import client

logger = Logger()


def handler(event: dict[str, Any], context: object) -> None:
    """Tell of each ending; raise where that failed, for Lambda to try again and then set aside."""
    for record in event["Records"]:
        ending = Event.parse(record["Sns"]["Message"])
        if _notifier().tell(ending):
            logger.info("told", extra={"saga_id": ending.saga_id, "event": ending.type})


@cache
def _notifier() -> Notifier:
    table = settings.required("NOTIFIER_TABLE")
    return Notifier(kit.dynamodb(), table, kit.ledger(), _by_mail if _sender() else _by_log)


def _sender() -> str:
    return os.environ.get("SENDER", "")


def _by_mail(message: Message) -> None:
    client("sesv2").send_email(
        FromEmailAddress=_sender(),
        Destination={"ToAddresses": [message.to]},
        Content={
            "Simple": {
                "Subject": {"Data": message.subject, "Charset": "UTF-8"},
                "Body": {"Text": {"Data": message.text, "Charset": "UTF-8"}},
            }
        },
    )


def _by_log(message: Message) -> None:
    """Where no sender is configured; the address stays out of the log."""
    logger.info(message.subject)
