"""What the author of a consumer writes: a function that takes one message, and nothing else.

It returns where the message is done with, and raises where it is not. A message that failed comes
again after a back-off, as often as its queue allows; `PoisonError` says that this is no use. The
same function serves a Lambda function (`recourse.functions.batch`) and `recourse worker`::

    def handle(message: Message) -> None: ...

A message may come more than once, even after it was done with: what it does goes into one
transaction with the row that says so (`recourse.queues.inbox.Inbox`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """A message, as it is received.

    Attributes:
        id: Its id in SQS; a message that was sent twice has two.
        body: Its text, whatever somebody has sent: to be read with care.
        attributes: Its attributes that are text or numbers, as text.
        group: Its group, where its sender named one; a FIFO queue keeps the order within it.
        receives: How often it has been received, this time included.
    """

    id: str
    body: str
    attributes: Mapping[str, str]
    group: str | None
    receives: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Message:
        """The message of a record, as Lambda gets it."""
        about = record["attributes"]
        return cls(
            record["messageId"],
            record["body"],
            {
                name: one["stringValue"]
                for name, one in record.get("messageAttributes", {}).items()
                if "stringValue" in one
            },
            about.get("MessageGroupId"),
            int(about["ApproximateReceiveCount"]),
        )


Handler = Callable[[Message], None]
