"""Queues for operators: count what is in them, redrive it, and clear what is settled.

A message move task of SQS cannot select messages, and SNS, streams and rules have no redrive at
all, so messages are redriven one by one: sent first, deleted then. So a message may be delivered
twice, which every consumer's inbox makes harmless; none is ever lost::

    queue = DeadletterQueue(sqs, "ledger", "recourse-dev-ledger")
    queue.redrive(dry_run=True).reasons  # Counter({"UnreadableError: …": 3})
    queue.redrive(saga_id="…").moved     # 1
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict, cast

from recourse.errors import RecourseError
from recourse.events.event import saga_id_of
from recourse.queues.reach import Reach
from recourse.text import read_json

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

SUFFIX = "-deadletters"
FIFO_SUFFIX = ".fifo"
"""The suffix of every FIFO queue's name."""
MAX_REDRIVE = 500
"""How many messages one pass of a redrive examines at the most."""
MAX_CLEAR = 5000
"""How many messages one pass of clearing examines at the most."""
MAX_SECONDS = 15
"""Seconds that one pass takes at the most; API Gateway times out after 29."""
VISIBILITY_TIMEOUT = 60
"""Seconds after which messages are visible again if a pass dies on the way."""
RENEWED = 7 * 24 * 3600
"""Seconds after which a message that an operator still has to act on is sent again: SQS drops it
after twice as many."""
REASON = "recourse-reason"
"""The attribute that says why a message was dead-lettered; its sender may have a `reason` too."""
MAX_ATTRIBUTES = 10
"""How many attributes a message of SQS has at the most."""
NO_REASON = (
    "none given: undeliverable, received as often as its queue allows, or with ten attributes of "
    "its sender, which leave no room for it: the log has it"
)


def deadletters_of(queue: str) -> str:
    """The name of a queue's dead-letter queue, which is FIFO where the queue is."""
    name = queue.removesuffix(FIFO_SUFFIX)
    return name + SUFFIX + queue[len(name) :]


class FifoParameters(TypedDict, total=False):
    """The parameters of SendMessage that FIFO queues have."""

    MessageGroupId: str
    MessageDeduplicationId: str


def fifo_parameters(queue: str, message_id: str, group: str | None) -> FifoParameters:
    """The parameters that send a message to the same group again; none unless the queue is FIFO.

    It is deduplicated by its own id: with the deduplication id that it was first sent with, the
    queue would treat it as a repetition and drop it.

    Args:
        queue: The name or URL of the queue that it is sent to.
        message_id: The message's id.
        group: Its group, if it has one.
    """
    if not queue.endswith(FIFO_SUFFIX) or group is None:
        return {}
    return {"MessageGroupId": group, "MessageDeduplicationId": message_id}


@dataclass(frozen=True)
class RedriveResult:
    """The result of one pass through a dead-letter queue.

    Attributes:
        looked_at: How many messages it examined.
        matched: How many of them were selected.
        moved: How many were redriven; 0 in a dry run.
        left: How many are in the dead-letter queue now, approximately.
        reasons: How many of the selected messages were dead-lettered for each reason.
        sagas: How many of the selected messages each saga id has; None for those that name none.
    """

    looked_at: int
    matched: int
    moved: int
    left: int
    reasons: Counter[str] = field(default_factory=Counter)
    sagas: Counter[str | None] = field(default_factory=Counter)


class OperatorQueue:
    """A queue whose messages stay until an operator acts on them.

    Args:
        sqs: An SQS client.
        own: Its name in SQS.

    Attributes:
        own: The same.
    """

    def __init__(self, sqs: SQSClient, own: str) -> None:
        self._sqs = sqs
        self.own = own
        self._url = cache(self._find_url)

    def waiting(self) -> int:
        """How many messages it holds, in flight or not; approximately, as SQS counts."""
        found = self._sqs.get_queue_attributes(
            QueueUrl=self._url(self.own),
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        return sum(int(count) for count in found["Attributes"].values())

    def clear(self, is_over: Callable[[str], bool | None], now: float) -> int:
        """Delete the messages that no operator has to act on any more; returns how many.

        Those that an operator still has to act on stay for longer than SQS keeps a message: they
        are sent again when half of that time is over.

        Args:
            is_over: Whether a message is one of those, by its body as it was published; None where
                nobody knows. Called once for each message.
            now: Seconds of the epoch.
        """
        messages = self._receive(MAX_CLEAR, time.monotonic() + MAX_SECONDS)
        gone: set[str] = set()
        cleared = 0
        try:
            for message in messages:
                over = is_over(_unwrapped(message["Body"]))
                sent_at = int(message["Attributes"]["SentTimestamp"]) / 1000
                if over is False and now - sent_at > RENEWED:
                    self._send(
                        self.own, message, message["Body"], message.get("MessageAttributes", {})
                    )
                elif not over:
                    continue
                else:
                    cleared += 1
                self._delete(message)
                gone.add(message["MessageId"])
        finally:
            self._put_back([one for one in messages if one["MessageId"] not in gone])
        return cleared

    def _send(
        self, queue: str, message: Mapping[str, Any], body: str, attributes: Mapping[str, Any]
    ) -> None:
        group = message.get("Attributes", {}).get("MessageGroupId")
        self._sqs.send_message(
            QueueUrl=self._url(queue),
            MessageBody=body,
            MessageAttributes=attributes,
            **fifo_parameters(queue, message["MessageId"], group),
        )

    def _delete(self, message: Mapping[str, Any]) -> None:
        self._sqs.delete_message(
            QueueUrl=self._url(self.own), ReceiptHandle=message["ReceiptHandle"]
        )

    def _receive(self, most: int, until: float) -> list[Mapping[str, Any]]:
        """Receive messages, `most` at the most, each once."""
        found: dict[str, Mapping[str, Any]] = {}
        while len(found) < most and time.monotonic() < until:
            got = self._sqs.receive_message(
                QueueUrl=self._url(self.own),
                MaxNumberOfMessages=min(10, most - len(found)),
                MessageSystemAttributeNames=["MessageGroupId", "SentTimestamp"],
                MessageAttributeNames=["All"],
                VisibilityTimeout=VISIBILITY_TIMEOUT,
                # A short poll queries only some of the servers, and may miss what there is.
                WaitTimeSeconds=1,
            )
            before = len(found)
            found |= {one["MessageId"]: one for one in got.get("Messages", [])}
            if len(found) == before:
                break
        return list(found.values())

    def _put_back(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Make messages visible again; where that fails, they are when their timeout ends."""
        for first in range(0, len(messages), 10):
            self._sqs.change_message_visibility_batch(
                QueueUrl=self._url(self.own),
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


class MessagesWaitError(RecourseError):
    """Messages wait in dead-letter queues; the message names these, and says how many."""


def check_empty(queues: Iterable[OperatorQueue], reach: Reach, now: float) -> None:
    """Fail if messages wait, so that one alarm on whoever calls this is one for all the queues.

    Args:
        queues: The queues.
        reach: Passes over those that are out of reach; they hold nothing.
        now: Seconds of the epoch.

    Raises:
        MessagesWaitError: Some do.
    """
    found = {queue.own: reach.within(queue.own, queue.waiting, now) for queue in queues}
    waiting = {name: count for name, count in found.items() if count}
    if waiting:
        each = ", ".join(f"{name}: {count}" for name, count in waiting.items())
        raise MessagesWaitError(f"messages wait for an operator (recourse redrive): {each}")


class DeadletterQueue(OperatorQueue):
    """One dead-letter queue.

    Args:
        sqs: An SQS client.
        name: Its name for operators.
        queue: The name in SQS of its source queue, to which its messages are redriven.
        why_not: Why they cannot be redriven, where there is no such queue.

    Attributes:
        redrives_to: The queue to which its messages are redriven; None where they cannot be.
    """

    def __init__(
        self, sqs: SQSClient, name: str, queue: str, *, why_not: str | None = None
    ) -> None:
        super().__init__(sqs, deadletters_of(queue))
        self.name = name
        self.redrives_to = None if why_not else queue
        self.why_not = why_not

    def redrive(self, *, saga_id: str | None = None, dry_run: bool = False) -> RedriveResult:
        """Go through the queue once, and send its messages back to their source queue.

        All are received before the first is sent: one that is dead-lettered again at once is not
        moved twice in one pass.

        Args:
            saga_id: Select only the messages about this saga.
            dry_run: Move nothing, only count.

        Returns:
            What was examined, selected and moved: up to `MAX_REDRIVE` messages in `MAX_SECONDS`.
        """
        until = time.monotonic() + MAX_SECONDS
        waiting = self.waiting()
        # The count is approximate, and may be 0 though a message has just arrived.
        messages = self._receive(min(waiting or 10, MAX_REDRIVE), until)
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
        return RedriveResult(looked_at, sagas.total(), len(moved), left, reasons, sagas)

    def _send_back(self, message: Mapping[str, Any], body: str) -> None:
        assert self.redrives_to is not None
        attributes = {name: value for name, value in _attributes(message).items() if name != REASON}
        self._send(self.redrives_to, message, body, attributes)
        self._delete(message)


def _envelope(body: str) -> Mapping[str, Any] | None:
    """The envelope of its own in which SNS dead-letters a message; None where there is none."""
    try:
        envelope = read_json(body)
        if envelope["Type"] == "Notification" and "TopicArn" in envelope and "Message" in envelope:
            return cast("Mapping[str, Any]", envelope)
    except (ValueError, LookupError, TypeError):
        pass
    return None


def _unwrapped(body: str) -> str:
    """The body as it was published."""
    envelope = _envelope(body)
    return body if envelope is None else str(envelope["Message"])


def _attributes(message: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as they were published; SNS puts them into its envelope."""
    published = (_envelope(message["Body"]) or {}).get("MessageAttributes", {})
    wrapped: dict[str, Any] = {
        name: {"DataType": one["Type"], "BinaryValue": b64decode(one["Value"])}
        if one["Type"].startswith("Binary")
        else {"DataType": one["Type"], "StringValue": one["Value"]}
        for name, one in published.items()
    }
    wrapped.update(message.get("MessageAttributes", {}))
    return wrapped


def _reason(message: Mapping[str, Any]) -> str:
    attributes = message.get("MessageAttributes", {})
    given = attributes.get(REASON)
    if given is None and len(attributes) < MAX_ATTRIBUTES:
        # What it was called before: such messages are kept for 14 days.
        given = attributes.get("reason")
    return str((given or {}).get("StringValue", NO_REASON))
