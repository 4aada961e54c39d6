"""The queue that a batch came from: delay, delete or dead-letter its messages."""

from __future__ import annotations

import json
import random
from base64 import b64decode
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import cut
from recourse.errors import TransientError, UnreadableError
from recourse.events import Event
from recourse.events.outbox import group_of
from recourse.queues.deadletters import MAX_ATTRIBUTES, REASON, GroupParameters, group_parameters

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageAttributeValueTypeDef

RETRY_BACKOFF_INITIAL, RETRY_BACKOFF_CAP = 1.0, 300.0
"""Seconds, at the most, before a failed message is retried: after its first receive, and ever."""


def backoff(
    receives: int, initial: float = RETRY_BACKOFF_INITIAL, cap: float = RETRY_BACKOFF_CAP
) -> int:
    """Seconds until a failed message is retried: exponential, with full jitter.

    Args:
        receives: How often it has been received, at least 1.
        initial: The upper bound after the first receive; it doubles with each further one.
        cap: The upper bound after any number of receives.
    """
    return round(random.uniform(0, min(cap, initial * 2 ** min(receives - 1, 30))))


def dead_letter_record(
    sqs: Callable[[], SQSClient], deadletters: str, record: Mapping[str, Any], reason: str
) -> None:
    """Dead-letter a record of a table's stream: its position, its saga and the reason.

    The row itself stays in its table, which keeps it for longer than the stream.

    Args:
        sqs: Makes an SQS client.
        deadletters: The dead-letter queue's URL.
        record: The stream record.
        reason: Why it can never be processed.

    Raises:
        TransientError: SQS did not accept it.
    """
    keys = {name: next(iter(key.values())) for name, key in record["dynamodb"]["Keys"].items()}
    image = record["dynamodb"].get("NewImage", {})
    saga_id = image.get("saga_id", {}).get("S") or keys["pk"].partition("#")[2].partition(".")[0]
    group = group_of(image)
    of_group: GroupParameters = {} if group is None else {"MessageGroupId": group}
    position = {
        "subject": saga_id or keys["pk"],
        "keys": keys,
        "stream": record.get("eventSourceARN"),
        "sequence_number": record["dynamodb"].get("SequenceNumber"),
    }
    try:
        sqs().send_message(
            QueueUrl=deadletters,
            MessageBody=json.dumps(position),
            MessageAttributes={REASON: _text(reason)},
            **of_group,
        )
    except (ClientError, BotoCoreError) as problem:
        raise TransientError(f"the record was not dead-lettered: {problem}") from problem


class SourceQueue:
    """The queue that messages came from, by its ARN; its URL is looked up only when needed.

    For instance, for a record of a Lambda event::

        queue = SourceQueue(lambda: sqs, record["eventSourceARN"])
        if queue.is_last_receive(record):
            queue.dead_letter(record, "ValueError: no such seat")
        else:
            queue.delay(record, 20)

    Args:
        sqs: Makes an SQS client.
        arn: The queue's ARN.
    """

    def __init__(self, sqs: Callable[[], SQSClient], arn: str) -> None:
        self._sqs = sqs
        self._name = arn.rpartition(":")[2]
        self._url = cache(self._find_url)
        self._policy = cache(self._find_policy)
        self._deadletters = cache(self._find_deadletters)

    def delay(self, record: Mapping[str, Any], seconds: int) -> None:
        """Hide a message for some seconds from now; then it is redelivered.

        Raises:
            TransientError: SQS did not do it; the message is redelivered when its visibility
                timeout ends.
        """
        try:
            self._sqs().change_message_visibility(
                QueueUrl=self._url(self._name),
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=seconds,
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the message was not delayed: {problem}") from problem

    def delete(self, record: Mapping[str, Any]) -> None:
        """Delete a message, where the batch's own response will not be sent.

        Raises:
            TransientError: SQS did not do it; the message is redelivered.
        """
        try:
            self._sqs().delete_message(
                QueueUrl=self._url(self._name), ReceiptHandle=record["receiptHandle"]
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the message was not deleted: {problem}") from problem

    def dead_letter(self, record: Mapping[str, Any], reason: str) -> None:
        """Send a copy of a message to the dead-letter queue, with the reason as an attribute.

        It keeps its own attributes. SQS allows ten: to a message that has ten, no reason is added.
        The caller deletes the original, and logs the reason.

        Raises:
            TransientError: SQS did not do it.
        """
        group = record["attributes"].get("MessageGroupId")
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            name: _attribute(one) for name, one in record.get("messageAttributes", {}).items()
        }
        if len(attributes) < MAX_ATTRIBUTES:
            attributes[REASON] = _text(reason)
        try:
            deadletters = self._deadletters()
            self._sqs().send_message(
                QueueUrl=deadletters,
                MessageBody=record["body"],
                MessageAttributes=attributes,
                **group_parameters(deadletters, record["messageId"], group),
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the message was not dead-lettered: {problem}") from problem

    def _find_url(self, name: str) -> str:
        return self._sqs().get_queue_url(QueueName=name)["QueueUrl"]

    def is_last_receive(self, record: Mapping[str, Any]) -> bool:
        """Whether this receive is a message's last: after it SQS dead-letters it, without a reason.

        Raises:
            TransientError: SQS did not answer.
        """
        try:
            most = int(self._policy()["maxReceiveCount"])
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the queue's redrive policy was not read: {problem}") from problem
        return int(record["attributes"]["ApproximateReceiveCount"]) >= most

    def _find_deadletters(self) -> str:
        target: str = self._policy()["deadLetterTargetArn"]
        return self._url(target.rpartition(":")[2])

    def _find_policy(self) -> dict[str, Any]:
        found = self._sqs().get_queue_attributes(
            QueueUrl=self._url(self._name), AttributeNames=["RedrivePolicy"]
        )
        policy: dict[str, Any] = json.loads(found["Attributes"]["RedrivePolicy"])
        return policy


def _attribute(given: Mapping[str, Any]) -> MessageAttributeValueTypeDef:
    """An attribute in a record of a Lambda event, as SendMessage takes it."""
    if "stringValue" in given:
        return {"DataType": given["dataType"], "StringValue": given["stringValue"]}
    return {"DataType": given["dataType"], "BinaryValue": b64decode(given["binaryValue"])}


def _text(reason: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": cut(reason)}


def log_fields(record: Mapping[str, Any], event: Event | None = None) -> dict[str, Any]:
    """What the log has of a message: which it is, its delivery, and the event that it is, if any.

    Nothing else of its body, which may be anybody's.

    Args:
        record: The message.
        event: Its event, where that has been read already.
    """
    attempt = int(record["attributes"]["ApproximateReceiveCount"])
    about: dict[str, Any] = {"message_id": record["messageId"], "attempt": attempt}
    try:
        return about | log_fields_of(event or Event.parse(record["body"]))
    except UnreadableError:
        return about


def log_fields_of(event: Event) -> dict[str, str]:
    """What the log has of an event: its saga, its step and its trace, and none of its data."""
    about = {"saga_id": event.saga_id, "saga": event.saga, "event": event.type}
    if event.step:
        about["step"] = event.step
    if event.traceparent:
        about["trace_id"] = event.traceparent.trace_id
    return about
