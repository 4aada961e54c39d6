"""The queue that a batch came from: put a message off, or dead-letter it with its reason."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import cut
from recourse.errors import TransientError
from recourse.queues.deadletters import place

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import MessageAttributeValueTypeDef

FIRST, CAP = 1.0, 300.0
"""Seconds before a message that has failed comes again: at first, and in the end."""


def backoff(receives: int, first: float = FIRST, cap: float = CAP) -> int:
    """Seconds until a message that has failed comes again: exponential with full jitter.

    Args:
        receives: How often it has been received.
        first: The most that it is after the first receive.
        cap: The most that it ever is.
    """
    return round(random.uniform(0, min(cap, first * 2 ** min(receives - 1, 30))))


def dead_letter_record(
    sqs: Callable[[], SQSClient], deadletters: str, record: Mapping[str, Any], reason: str
) -> None:
    """Dead-letter where a record of a table's stream is, and whose, with the reason.

    The row itself stays in its table, which keeps it for longer than the stream.

    Args:
        sqs: Makes an SQS client.
        deadletters: The dead-letter queue's address.
        record: The record.
        reason: Why nothing can be done with it.

    Raises:
        TransientError: SQS did not take it.
    """
    keys = {name: next(iter(key.values())) for name, key in record["dynamodb"]["Keys"].items()}
    image = record["dynamodb"].get("NewImage", {})
    saga_id = image.get("saga_id", {}).get("S") or keys["pk"].partition("#")[2].partition(".")[0]
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
            MessageAttributes={"reason": _text(reason)},
        )
    except (ClientError, BotoCoreError) as problem:
        raise TransientError(f"the record was not dead-lettered: {problem}") from problem


class SourceQueue:
    """A queue, by its ARN. Its address is looked up when something has failed, not before.

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

    def later(self, record: Mapping[str, Any], seconds: int) -> None:
        """Let a message come again after some seconds.

        Raises:
            TransientError: SQS did not do it; it comes again when its visibility ends.
        """
        try:
            self._sqs().change_message_visibility(
                QueueUrl=self._url(self._name),
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=seconds,
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the message was not put off: {problem}") from problem

    def delete(self, record: Mapping[str, Any]) -> None:
        """Delete a message, where the batch's own answer will not come.

        Raises:
            TransientError: SQS did not do it; the message comes again.
        """
        try:
            self._sqs().delete_message(
                QueueUrl=self._url(self._name), ReceiptHandle=record["receiptHandle"]
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the message was not deleted: {problem}") from problem

    def dead_letter(self, record: Mapping[str, Any], reason: str) -> None:
        """Put a copy of a message into the dead-letter queue, with its reason.

        It keeps its attributes; of ten, all that SQS takes, the last gives way to the reason.

        Raises:
            TransientError: SQS did not do it.
        """
        group = record["attributes"].get("MessageGroupId")
        given = list(record.get("messageAttributes", {}).items())[:9]
        attributes: dict[str, MessageAttributeValueTypeDef] = {
            name: {"DataType": one["dataType"], "StringValue": one["stringValue"]}
            for name, one in given
            if "stringValue" in one
        }
        try:
            deadletters = self._deadletters()
            self._sqs().send_message(
                QueueUrl=deadletters,
                MessageBody=record["body"],
                MessageAttributes=attributes | {"reason": _text(reason)},
                **place(deadletters, record["messageId"], group),
            )
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the message was not dead-lettered: {problem}") from problem

    def _find_url(self, name: str) -> str:
        return self._sqs().get_queue_url(QueueName=name)["QueueUrl"]

    def is_last(self, record: Mapping[str, Any]) -> bool:
        """Whether a message is not delivered again, but dropped into the dead-letter queue.

        Raises:
            TransientError: SQS did not say.
        """
        try:
            most = int(self._policy()["maxReceiveCount"])
        except (ClientError, BotoCoreError) as problem:
            raise TransientError(f"the queue's policy is not known: {problem}") from problem
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


def _text(reason: str) -> MessageAttributeValueTypeDef:
    return {"DataType": "String", "StringValue": cut(reason)}
