"""Tells people how their saga ended: one message each, however often SNS pushes the event.

A row claims an ending before its message is sent and says afterwards that it was. A process that
dies between the two leaves a claim that ends (`CLAIMED`), and the next delivery sends the message:
twice at the worst, where it died after sending; never not at all.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from recourse import Subscriber, TransientError
from recourse.events import Event, expiry
from recourse.functions import kit, settings
from recourse.store.aws import client
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, LessThan
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from recourse.ledger.ledger import Ledger, Record

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
        self._table = Table(dynamodb, table)
        self._ledger = ledger
        self._send = send

    def tell(self, event: Event) -> bool:
        """Tell of an ending, unless it was told before; whether anybody was told now.

        Raises:
            TransientError: It is being told at this moment: whether it was, is known later.
        """
        record = self._ledger.get(event.saga_id)
        message = record and self._message(record, event.kind)
        if not message or not self._claim(event.id):
            return False
        self._send(message)
        row = {"pk": event.id, "is_told": True, "until": 0, "expires_at": expiry()}
        self._table.put(row)
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
        """Claim an ending; whether this delivery is to tell it.

        Raises:
            TransientError: Another has claimed it and has not said yet that it was told.
        """
        now = int(time.time())
        row = {"pk": event_id, "is_told": False, "until": now + CLAIMED, "expires_at": expiry()}
        try:
            self._table.put(row, when=[ABSENT, {"is_told": False, "until": LessThan(now)}])
            return True
        except ConditionFailedError as refused:
            there = refused.rows[0]
            assert there is not None, "where there is none, it is claimed"
            if there["is_told"]:
                return False
            raise TransientError(f"{event_id} is being told") from refused


def handler(event: dict[str, Any], context: object) -> None:
    """Tell of each ending; raise where that failed, for Lambda to retry and then dead-letter."""
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
