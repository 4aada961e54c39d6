"""One receive of a message: its receipt handle, its lane and its state."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from recourse.queues.message import Message
from recourse.queues.sources import log_fields

if TYPE_CHECKING:
    from types_boto3_sqs.type_defs import MessageAttributeValueOutputTypeDef, MessageTypeDef

BATCH = 10
"""How many messages SQS receives, changes or deletes in one call at the most."""


@dataclass(eq=False, slots=True)
class Delivery:
    """A message in flight.

    Attributes:
        record: The message in the form of a record of a Lambda event.
        message: The message as the handler receives it.
        lane: The group whose order it keeps; None where the queue is not FIFO.
        hidden_until: When it becomes visible to others, in seconds of `time.monotonic`. Set only by
            the heartbeat.
        state: How far it is; `expired` once its lease was given up. Set only by the leases.
        begun: When the handler was called, by the same clock.
    """

    record: Mapping[str, Any]
    message: Message
    lane: str | None
    hidden_until: float
    state: Literal["waiting", "running", "done", "expired"] = "waiting"
    begun: float = 0.0

    @classmethod
    def of(cls, received: MessageTypeDef, *, fifo: bool, hidden_until: float) -> Delivery:
        """The delivery of a message as `ReceiveMessage` returned it."""
        record = {
            "messageId": received["MessageId"],
            "receiptHandle": received["ReceiptHandle"],
            "body": received["Body"],
            "attributes": received["Attributes"],
            "messageAttributes": {
                name: _attribute(given)
                for name, given in received.get("MessageAttributes", {}).items()
            },
        }
        message = Message.of(record)
        return cls(record, message, message.group if fifo else None, hidden_until)

    @property
    def receipt(self) -> str:
        """The receipt handle."""
        return str(self.record["receiptHandle"])

    @property
    def sent_at(self) -> float:
        """When it was sent, in seconds since 1970; 0 where SQS did not say."""
        return int(self.record["attributes"].get("SentTimestamp", 0)) / 1000

    @property
    def log_fields(self) -> dict[str, Any]:
        """What the log has of it: as of a function's message, and its group."""
        group = {"group": self.message.group} if self.message.group else {}
        return log_fields(self.record) | group


def _attribute(given: MessageAttributeValueOutputTypeDef) -> dict[str, str]:
    """An attribute as `ReceiveMessage` returned it, in the form of a Lambda event."""
    if "StringValue" in given:
        return {"dataType": given["DataType"], "stringValue": given["StringValue"]}
    value = b64encode(given["BinaryValue"]).decode()
    return {"dataType": given["DataType"], "binaryValue": value}
