"""Notifies people when their saga has ended: one mail each, however often SNS pushes the event.

A row claims the event before its mail is sent, and records afterwards that it was sent. A process
that dies in between leaves a claim that expires (`CLAIMED`), and the next delivery sends the mail:
so it is sent at least once, and twice if the process died after sending.
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
from recourse.events import Event, inbox_expiry
from recourse.functions import kit, settings
from recourse.queues.sources import log_fields_of
from recourse.store.aws import client
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, LessThan
from recourse.store.table import Table

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from recourse.ledger.ledger import Ledger
    from recourse.ledger.record import Record

logger = Logger()

ENDINGS = ("succeeded", "compensated")
"""The endings that people are notified of; operators are alerted to stuck sagas by alarms."""
SUBSCRIBER = Subscriber(
    "Notifier",
    hears={"kind": ENDINGS},
    may={
        "ledger": ["dynamodb:GetItem"],
        "table": ["dynamodb:PutItem"],
        "sender": ["ses:SendEmail"],
    },
)
CLAIMED = 45
"""Seconds until a claim expires: longer than the function's timeout."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Message:
    """A mail to a person.

    Attributes:
        to: The address.
        subject: One line.
        text: Plain text.
    """

    to: str
    subject: str
    text: str


class Notifier:
    """Notifies people when their saga has ended.

    Args:
        dynamodb: A DynamoDB client.
        table: The table of the claims.
        ledger: The ledger, which has the contact and the reason.
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

    def notify(self, event: Event) -> bool:
        """Send the message of an ending, unless it was sent before.

        Returns:
            Whether it was sent now.

        Raises:
            TransientError: Another delivery is sending it; whether it succeeds is not known yet.
        """
        record = self._ledger.get(event.saga_id)
        message = record and self._message(record, event.kind)
        if not message or not self._claim(event.id):
            return False
        self._send(message)
        row = {"pk": event.id, "is_told": True, "until": 0, "expires_at": inbox_expiry()}
        self._table.put(row)
        return True

    def _message(self, record: Record, ending: str) -> Message | None:
        shape = self._ledger.shape(record)
        person = record.request.get(shape.contact) if shape.contact else None
        if person is None or record.is_erased or ending not in ENDINGS:
            return None
        what = f"{record.saga} {_CONTROL.sub(' ', record.business_key)}"
        lines = [f"Dear {_CONTROL.sub(' ', person['name'])},", ""]
        if ending == "succeeded":
            subject = f"{what}: done"
            lines.append(f"your {what} is done.")
        else:
            subject = f"{what}: undone"
            lines.append(f"your {what} could not be done, and all that had been done is undone.")
            reason = record.view(shape)["reason"]
            if reason:
                lines.append(f"The reason: {reason['step']}: {reason['message']}")
        lines += ["", f"Its number is {record.saga_id}."]
        return Message(person["email"], subject, "\n".join(lines))

    def _claim(self, event_id: str) -> bool:
        """Claim an event; False if its message was sent before.

        Raises:
            TransientError: Another delivery has claimed it and has not recorded yet that it sent.
        """
        now = int(time.time())
        row = {
            "pk": event_id,
            "is_told": False,
            "until": now + CLAIMED,
            "expires_at": inbox_expiry(),
        }
        try:
            self._table.put(row, when=[ABSENT, {"is_told": False, "until": LessThan(now)}])
            return True
        except ConditionFailedError as refused:
            there = refused.rows[0]
            assert there is not None, "a put without a row succeeds"
            if there["is_told"]:
                return False
            raise TransientError(f"{event_id} is being sent by another delivery") from refused


def handler(event: dict[str, Any], context: object) -> None:
    """Notify of each ending; an error makes Lambda retry, and then dead-letter, the event."""
    for record in event["Records"]:
        ending = Event.parse(record["Sns"]["Message"])
        if _notifier().notify(ending):
            logger.info("notified", extra=log_fields_of(ending))


@cache
def _notifier() -> Notifier:
    table = settings.required("NOTIFIER_TABLE")
    return Notifier(kit.dynamodb(), table, kit.ledger(), _by_mail if _sender() else _nowhere)


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


def _nowhere(_: Message) -> None:
    """Send nothing, as there is no sender; no log has what a message says of a person."""
    logger.info("not mailed: the stage has no sender")
