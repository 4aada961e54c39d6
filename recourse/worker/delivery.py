"""A message as it was received once: what SQS knows it by, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from recourse.message import Message

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import MessageTypeDef

BATCH = 10
"""How many messages SQS takes and gives in one call."""


@dataclass(eq=False, slots=True)
class Delivery:
    """A message in hand.

    Attributes:
        record: The message as Lambda gets it.
        message: The message as the handler gets it.
        lane: The group whose order it keeps; None where the queue is not FIFO.
        hidden_until: When others see it again, by our monotonic clock. Set by the heartbeat alone.
        state: How far it is; `expired` where it was left to come again. Set by the leases alone.
        begun: When the handler was given it, by the same clock.
    """

    record: Mapping[str, Any]
    message: Message
    lane: str | None
    hidden_until: float
    state: Literal["waiting", "running", "done", "expired"] = "waiting"
    begun: float = 0.0

    @classmethod
    def of(cls, received: MessageTypeDef, *, fifo: bool, hidden_until: float) -> Delivery:
        """What SQS gave for a message."""
        record = {
            "messageId": received["MessageId"],
            "receiptHandle": received["ReceiptHandle"],
            "body": received["Body"],
            "attributes": received["Attributes"],
            "messageAttributes": {
                name: {"stringValue": given["StringValue"], "dataType": given["DataType"]}
                for name, given in received.get("MessageAttributes", {}).items()
                if "StringValue" in given
            },
        }
        message = Message.of(record)
        return cls(record, message, message.group if fifo else None, hidden_until)

    @property
    def receipt(self) -> str:
        """What SQS knows this receive by."""
        return str(self.record["receiptHandle"])

    @property
    def sent_at(self) -> float:
        """When it was sent, in seconds since 1970; 0 where SQS has not said."""
        return int(self.record["attributes"].get("SentTimestamp", 0)) / 1000

    @property
    def log_fields(self) -> dict[str, Any]:
        """What the log says of it."""
        group = {"group": self.message.group} if self.message.group else {}
        return {"message_id": self.message.id, "receives": self.message.receives} | group
