"""The queue of wake-ups, each of which has a pusher send a connection what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recourse.events import message_group

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


class WakeUpQueue:
    """The queue of wake-ups.

    Args:
        sqs: An SQS client.
        url: The queue's URL.
    """

    def __init__(self, sqs: SQSClient, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def send(self, owner: str, name: str, *, delay: int = 0) -> None:
        """Have a pusher send a connection what has come for it.

        Args:
            owner: The owner.
            name: The connection.
            delay: Seconds until then.
        """
        attributes = {"owner": owner, "connection": name, "position": "0"}
        self._sqs.send_message(
            QueueUrl=self._url,
            MessageBody="{}",
            DelaySeconds=delay,
            MessageGroupId=message_group(owner),
            MessageAttributes={
                key: {"DataType": "String", "StringValue": value}
                for key, value in attributes.items()
            },
        )
