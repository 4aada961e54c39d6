"""The relay: from the streams of tables to a topic.

Outbox rows go to what steps and consumers listen to; the feed's rows, with their owner and
position, to what people are told by.

No row is in the way of those behind it: what SNS will never take is dead-lettered with its reason,
and what it does not take now is tried again for a while, after all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.declare.limits import CARRIED, cut, words
from recourse.errors import RecourseError, TransientError, UnreadableError
from recourse.events import Event

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient
    from types_boto3_sns.type_defs import PublishBatchRequestEntryTypeDef

MOST_EVENTS = 10
"""What one PublishBatch takes; its size is that of one event."""
PATIENCE = 20
"""Seconds for which one call tries again: a stream gives a batch up after so many calls."""
NEVER = {"InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid"}
"""What SNS says of a message that it will not take at any time."""

Record = Mapping[str, Any]
DeadLetter = Callable[[Record, str], None]


class PublishError(RecourseError):
    """Not every event could be published; the stream delivers the batch again."""


@dataclass(frozen=True)
class _Message:
    """An event as SNS takes it, and the record that it comes from."""

    record: Record
    text: str
    named: Mapping[str, str]

    @property
    def weight(self) -> int:
        """Its bytes, with those of its attributes."""
        named = (f"{name}String{value}" for name, value in self.named.items())
        return len(self.text.encode()) + sum(len(one.encode()) for one in named)

    def entry(self, name: int) -> PublishBatchRequestEntryTypeDef:
        """It as a part of a batch."""
        return {
            "Id": str(name),
            "Message": self.text,
            "MessageAttributes": {
                attribute: {"DataType": "String", "StringValue": value}
                for attribute, value in self.named.items()
            },
        }


def relay(
    sns: SNSClient,
    topic: str,
    records: Iterable[Record],
    dead_letter: DeadLetter,
    *,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Publish the events of new rows; some may be published again after a failure.

    Args:
        sns: An SNS client.
        topic: The topic's ARN.
        records: Stream records; others than new rows of an outbox or a feed are passed over.
        dead_letter: Dead-letters a record that can never be published, with the reason; may raise.
        patience: Seconds for which what could not be published is tried again.
        sleep: How to wait.

    Returns:
        How many were published or dead-lettered.

    Raises:
        PublishError: Some could be neither; all others were.
    """
    new = [
        record
        for record in records
        if record["eventName"] == "INSERT"
        and "event" in (image := record["dynamodb"]["NewImage"])
        and image["pk"]["S"].startswith(("outbox#", "feed#"))
    ]
    until, pause = time.monotonic() + patience, 0.2
    left = _publish(sns, topic, new, dead_letter)
    while left:
        if time.monotonic() + pause > until:
            raise PublishError(f"{len(left)} of {len(new)} events, the first: {left[0].why}")
        sleep(pause)
        pause = min(pause * 2, 5)
        left = _publish(sns, topic, [failure.record for failure in left], dead_letter)
    return len(new)


@dataclass(frozen=True)
class _Failure:
    """A record that could not be published, why, and whether it never can be."""

    record: Record
    why: str
    never: bool


def _publish(
    sns: SNSClient, topic: str, records: Iterable[Record], dead_letter: DeadLetter
) -> list[_Failure]:
    """Publish once, and dead-letter what never can be; what is left to be tried again."""
    failures: list[_Failure] = []
    for batch in _batches(_messages(records, failures)):
        failures += _publish_batch(sns, topic, batch)
    left = [failure for failure in failures if not failure.never]
    for failure in failures:
        if failure.never:
            try:
                dead_letter(failure.record, failure.why)
            except TransientError as problem:
                left.append(_Failure(failure.record, words(problem), never=False))
    return left


def _messages(records: Iterable[Record], failures: list[_Failure]) -> Iterator[_Message]:
    """The events of records; those that are none, or too large, are failures."""
    for record in records:
        try:
            message = _message(record)
        except (UnreadableError, LookupError) as problem:
            failures.append(_Failure(record, f"this is no event: {words(problem)}", never=True))
            continue
        if message.weight > CARRIED:
            why = f"an event must be at most {CARRIED} bytes, got {message.weight}"
            failures.append(_Failure(record, why, never=True))
            continue
        yield message


def _message(record: Record) -> _Message:
    """The event of a row, and what SNS filters look at: with it, where it stands in whose feed."""
    image = record["dynamodb"]["NewImage"]
    named = Event.parse(image["event"]["S"]).attributes()
    if "position" in image:
        named |= {"owner": image["owner"]["S"], "position": image["position"]["N"]}
    return _Message(record, image["event"]["S"], named)


def _publish_batch(sns: SNSClient, topic: str, batch: Sequence[_Message]) -> Iterator[_Failure]:
    """Publish a batch; one that is refused as a whole is published one by one."""
    try:
        answer = sns.publish_batch(
            TopicArn=topic,
            PublishBatchRequestEntries=[one.entry(at) for at, one in enumerate(batch)],
        )
    except (ClientError, BotoCoreError) as problem:
        never = isinstance(problem, ClientError) and problem.response["Error"]["Code"] in NEVER
        if never and len(batch) > 1:
            for one in batch:
                yield from _publish_batch(sns, topic, [one])
        else:
            yield from (_Failure(one.record, words(problem), never) for one in batch)
        return
    for failed in answer.get("Failed", ()):
        why = f"{failed['Code']}: {failed.get('Message', '')}"
        yield _Failure(batch[int(failed["Id"])].record, cut(why), failed["Code"] in NEVER)


def _batches(messages: Iterable[_Message]) -> Iterator[list[_Message]]:
    """The events as SNS takes them: ten a call, and 256 KiB."""
    batch: list[_Message] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MOST_EVENTS or size + message.weight > CARRIED):
            yield batch
            batch, size = [], 0
        size += message.weight
        batch.append(message)
    if batch:
        yield batch
