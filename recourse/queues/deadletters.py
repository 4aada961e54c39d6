"""Queues of operators: what rests in each, its way back, and what is over.

A move task of SQS cannot choose, and SNS, streams and rules have no redrive at all, so messages go
back one by one: sent first and deleted then. A message may so come twice, which every consumer's
inbox makes harmless; none is ever lost.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

from recourse.events.event import saga_id_of

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

SUFFIX = "-deadletters"
FIFO = ".fifo"
"""What the name of a FIFO queue ends in."""
MOST = 500
"""How many messages one pass of a redrive looks at, at the most."""
MOST_CLEARED = 5000
"""How many messages are looked at, at the most, to take out what is over."""
SECONDS = 15
"""How long one pass goes on; an answer is due within 29 s."""
HIDDEN = 60
"""Seconds after which a message is there again if a pass dies on the way."""
NO_REASON = "none was given: it was not delivered, or as often as its queue allows"


def deadletters_of(queue: str) -> str:
    """The name of the dead-letter queue of a queue; that of a FIFO queue is one too."""
    name = queue.removesuffix(FIFO)
    return name + SUFFIX + queue[len(name) :]


class Place(TypedDict, total=False):
    """Where a message stands in a FIFO queue."""

    MessageGroupId: str
    MessageDeduplicationId: str


def place(queue: str, message_id: str, group: str | None) -> Place:
    """What a message is sent with so that it comes into its group again, where that is kept.

    It goes under its own id: by the one that it was first sent with, the queue would take it for a
    repetition and drop it.

    Args:
        queue: The name or address of the queue that it is sent to.
        message_id: The message.
        group: Its group.
    """
    if not queue.endswith(FIFO) or group is None:
        return {}
    return {"MessageGroupId": group, "MessageDeduplicationId": message_id}


@dataclass(frozen=True)
class Redriven:
    """How a pass through a dead-letter queue went.

    Attributes:
        looked_at: How many messages it looked at.
        matched: How many of them were asked for.
        moved: How many went back; none in a dry run.
        left: How many rest there now.
        reasons: Why those that matched were dead-lettered, and how many of them.
        sagas: Whose they are, by saga id; None for what names no saga.
    """

    looked_at: int
    matched: int
    moved: int
    left: int
    reasons: Counter[str] = field(default_factory=Counter)
    sagas: Counter[str | None] = field(default_factory=Counter)


class RestingQueue:
    """A queue whose messages rest until somebody decides.

    Args:
        sqs: An SQS client.
        own: Its name in SQS.
    """

    def __init__(self, sqs: SQSClient, own: str) -> None:
        self._sqs = sqs
        self._own = own
        self._url = cache(self._find_url)

    def waiting(self) -> int:
        """How many messages rest here, those included that somebody is looking at; roughly."""
        found = self._sqs.get_queue_attributes(
            QueueUrl=self._url(self._own),
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        return sum(int(count) for count in found["Attributes"].values())

    def clear(self, is_over: Callable[[str], bool]) -> int:
        """Take out the messages that nobody has to decide on any more; how many they were.

        Args:
            is_over: Whether that is so, by what was published; called once for each message.
        """
        messages = self._look(MOST_CLEARED, time.monotonic() + SECONDS)
        gone: set[str] = set()
        try:
            for message in messages:
                if is_over(_unwrapped(message["Body"])):
                    self._sqs.delete_message(
                        QueueUrl=self._url(self._own), ReceiptHandle=message["ReceiptHandle"]
                    )
                    gone.add(message["MessageId"])
        finally:
            self._put_back([one for one in messages if one["MessageId"] not in gone])
        return len(gone)

    def _look(self, most: int, until: float) -> list[Mapping[str, Any]]:
        """Take messages in, no more than so many, each once."""
        found: dict[str, Mapping[str, Any]] = {}
        while len(found) < most and time.monotonic() < until:
            got = self._sqs.receive_message(
                QueueUrl=self._url(self._own),
                MaxNumberOfMessages=min(10, most - len(found)),
                MessageSystemAttributeNames=["MessageGroupId"],
                MessageAttributeNames=["All"],
                VisibilityTimeout=HIDDEN,
                # A short poll asks some of the servers only, and may find nothing where there is.
                WaitTimeSeconds=1,
            )
            before = len(found)
            found |= {one["MessageId"]: one for one in got.get("Messages", [])}
            if len(found) == before:
                break
        return list(found.values())

    def _put_back(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Let messages be seen again; where that fails they are when their time is up."""
        for first in range(0, len(messages), 10):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url(self._own),
                Entries=[
                    {
                        "Id": str(index),
                        "ReceiptHandle": message["ReceiptHandle"],
                        "VisibilityTimeout": 0,
                    }
                    for index, message in enumerate(messages[first : first + 10])
                ],
            )

    def _find_url(self, name: str) -> str:
        return self._sqs.get_queue_url(QueueName=name)["QueueUrl"]


class DeadletterQueue(RestingQueue):
    """One dead-letter queue.

    Args:
        sqs: An SQS client.
        name: What operators call it.
        queue: The name in SQS of the queue that it belongs to and that its messages go back to.
        why_not: Why they cannot go back, where there is no such queue.

    Attributes:
        redrives_to: The queue that its messages go back to; None where they cannot.
    """

    def __init__(
        self, sqs: SQSClient, name: str, queue: str, *, why_not: str | None = None
    ) -> None:
        super().__init__(sqs, deadletters_of(queue))
        self.name = name
        self.redrives_to = None if why_not else queue
        self.why_not = why_not

    def redrive(self, *, saga_id: str | None = None, dry_run: bool = False) -> Redriven:
        """Go once through what rests here, and send it back.

        All is taken in before anything goes back: what is dead-lettered again at once is not taken
        twice.

        Args:
            saga_id: Only what is about this saga.
            dry_run: Move nothing, only look.
        """
        until = time.monotonic() + SECONDS
        waiting = self.waiting()
        # The count is rough, and may be 0 for a message that has just come.
        messages = self._look(min(waiting or 10, MOST), until)
        reasons: Counter[str] = Counter()
        sagas: Counter[str | None] = Counter()
        looked_at = 0
        moved: set[str] = set()
        try:
            for message in messages:
                if time.monotonic() > until:
                    break
                looked_at += 1
                body = _unwrapped(message["Body"])
                about = saga_id_of(body)
                if saga_id is not None and about != saga_id:
                    continue
                reasons[_reason(message)] += 1
                sagas[about] += 1
                if not dry_run:
                    self._send_back(message, body)
                    moved.add(message["MessageId"])
        finally:
            self._put_back([one for one in messages if one["MessageId"] not in moved])
        left = max(waiting, len(messages)) - len(moved)
        return Redriven(looked_at, sagas.total(), len(moved), left, reasons, sagas)

    def _send_back(self, message: Mapping[str, Any], body: str) -> None:
        assert self.redrives_to is not None
        attributes = {
            name: value
            for name, value in message.get("MessageAttributes", {}).items()
            if name != "reason"
        }
        group = message.get("Attributes", {}).get("MessageGroupId")
        self._sqs.send_message(
            QueueUrl=self._url(self.redrives_to),
            MessageBody=body,
            MessageAttributes=attributes,
            **place(self.redrives_to, message["MessageId"], group),
        )
        self._sqs.delete_message(
            QueueUrl=self._url(self._own), ReceiptHandle=message["ReceiptHandle"]
        )


def _unwrapped(body: str) -> str:
    """What was published, where SNS has dead-lettered it in an envelope of its own."""
    try:
        envelope = json.loads(body)
        if envelope["Type"] == "Notification" and "TopicArn" in envelope:
            return str(envelope["Message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return body


def _reason(message: Mapping[str, Any]) -> str:
    given = message.get("MessageAttributes", {}).get("reason", {})
    return str(given.get("StringValue", NO_REASON))
