"""A message, and what handles it: a function of one message, all that a consumer's author writes.

It returns when the message is processed, and raises when it is not. A message that failed is
retried after a back-off, as often as its queue allows; `PoisonError` says that a retry is
pointless. The same function serves a Lambda function (`recourse.functions.batch`) and `recourse
worker`.

Delivery is at least once: a message may be redelivered even after it was processed. So its effect
goes into one transaction with the row that records it (`recourse.queues.inbox.Inbox`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recourse.events import Event


@dataclass(frozen=True, slots=True)
class Message:
    """A message, as it was received.

    ::

        def handle(message: Message) -> None:
            event = message.event()  # what is none is a PoisonError
            inbox.once(event.id, count)

    Attributes:
        id: Its id in SQS; a message that was sent twice has two.
        body: Its text, unchecked: anyone who may send to the queue may have written it.
        attributes: Its message attributes of type String and Number, as text.
        group: Its message group, if it has one; a FIFO queue keeps the order within a group.
        receives: How often it has been received, this time included.
    """

    id: str
    body: str
    attributes: Mapping[str, str]
    group: str | None
    receives: int

    def event(self) -> Event:
        """The event that its text is: of any saga, those that are declared no more among them.

        Raises:
            UnreadableError: It is not an event; the message says why.
        """
        return Event.parse(self.body, checked=True)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Message:
        """The message in a record of a Lambda event."""
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
