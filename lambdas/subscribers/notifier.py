"""Tells people how their saga ended: one message each, however often SNS pushes the event.

A row claims an ending before its message is sent and says afterwards that it was. A process that
dies between the two leaves a claim that ends (`CLAIMED`), and the next delivery sends the message:
twice at the worst, where it died after sending; never not at all.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from lambdas import kit, settings
from recourse.aws import client
from recourse.consumer import Subscriber
from recourse.events import expiry
from recourse.items import encode, encode_item
from recourse.step import TransientError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from recourse.ledger import Ledger, Record

logger = Logger()

TOLD = ("succeeded", "compensated")
"""The endings that people are told of; what waits for an operator is told to operators."""
SUBSCRIBER = Subscriber(
    "Notifier",
    hears={"kind": TOLD},
    may={
        "ledger": ["dynamodb:GetItem"],
        "table": ["dynamodb:PutItem"],
        "sender": ["ses:SendEmail"],
    },
)
CLAIMED = 45
"""Seconds that a claim holds: longer than a function may take to send."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Message:
    """What somebody is told.

    Attributes:
        to: The address.
        subject: One line.
        text: Plain text.
    """

    to: str
    subject: str
    text: str


class Notifier:
    """Tells people how their saga ended.

    Args:
        dynamodb: A DynamoDB client.
        table: The table of what was told.
        ledger: Whom to tell, and what.
        send: Sends a message.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        ledger: Ledger,
        send: Callable[[Message], None],
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._ledger = ledger
        self._send = send

    def tell(self, told: Mapping[str, Any]) -> bool:
        """Tell of an ending, unless it was told before; whether anybody was told now.

        Raises:
            TransientError: It is being told at this moment: whether it was, is known later.
        """
        record = self._ledger.get(told["subject"])
        message = record and self._message(record, told["type"].rpartition(".")[2])
        if not message or not self._claim(told["id"]):
            return False
        self._send(message)
        row = {"pk": told["id"], "is_told": True, "until": 0, "expires_at": expiry()}
        self._dynamodb.put_item(TableName=self._table, Item=encode_item(row))
        return True

    def _message(self, record: Record, ending: str) -> Message | None:
        saga = self._ledger.sagas[record.saga]
        person = record.request.get(saga.contact) if saga.contact else None
        if person is None or ending not in TOLD:
            return None
        what = f"{record.saga} {_CONTROL.sub(' ', record.business_key)}"
        lines = [f"Dear {_CONTROL.sub(' ', person['name'])},", ""]
        if ending == "succeeded":
            subject = f"{what}: done"
            lines.append(f"your {what} is done.")
        else:
            subject = f"{what}: undone"
            lines.append(f"your {what} could not be done, and all that had been done is undone.")
            reason = record.view(saga)["reason"]
            if reason:
                lines.append(f"The reason: {reason['step']}: {reason['message']}")
        lines += ["", f"Its number is {record.saga_id}."]
        return Message(person["email"], subject, "\n".join(lines))

    def _claim(self, event_id: str) -> bool:
        """Claim an ending; whether it is ours to tell.

        Raises:
            TransientError: Another has claimed it and has not said yet that it was told.
        """
        now = int(time.time())
        row = {"pk": event_id, "is_told": False, "until": now + CLAIMED, "expires_at": expiry()}
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=encode_item(row),
                ConditionExpression="attribute_not_exists(pk) OR (is_told = :no AND #until < :now)",
                ExpressionAttributeNames={"#until": "until"},
                ExpressionAttributeValues={":no": encode(False), ":now": encode(now)},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            return True
        except self._dynamodb.exceptions.ConditionalCheckFailedException as refused:
            there: Any = refused.response
            if there["Item"]["is_told"]["BOOL"]:
                return False
            raise TransientError(f"{event_id} is being told") from refused


def handler(event: dict[str, Any], context: object) -> None:
    """Tell of each ending; raise where that failed, for Lambda to try again and then set aside."""
    for record in event["Records"]:
        told = json.loads(record["Sns"]["Message"])
        if _notifier().tell(told):
            logger.info("told", extra={"saga_id": told["subject"], "event": told["type"]})


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
