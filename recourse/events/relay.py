"""The relay: publishes new rows of the streams of tables to a topic.

Outbox rows go to the topic of steps and consumers; rows of the feed, with their owner and position,
to the topic of the live channels and subscribers. Each message has its owner's message group, which
SNS passes on to queues: those are fair by it.

No row blocks those behind it: what SNS will never accept is dead-lettered, with its reason, and
what it does not accept now is retried for a while, after all others.
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
from recourse.events.outbox import group_of

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient
    from types_boto3_sns.type_defs import PublishBatchRequestEntryTypeDef

MAX_BATCH_EVENTS = 10
"""Events that one PublishBatch accepts; together they may be as large as one may be."""
PATIENCE = 20
"""Seconds for which one call retries: a stream gives a batch up after a number of calls."""
PERMANENT = {"InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid"}
"""The errors of SNS for a message that it will never accept."""

Record = Mapping[str, Any]
DeadLetter = Callable[[Record, str], None]


class PublishError(RecourseError):
    """Not every event could be published; the stream delivers the batch again."""


@dataclass(frozen=True)
class _Message:
    """An event as SNS accepts it, and the record that it comes from.

    `group` is its owner's (`message_group`); None for rows that earlier releases wrote.
    """

    record: Record
    text: str
    named: Mapping[str, str]
    group: str | None

    @property
    def weight(self) -> int:
        """Its bytes, with those of its attributes."""
        named = (f"{name}String{value}" for name, value in self.named.items())
        return len(self.text.encode()) + sum(len(one.encode()) for one in named)

    def entry(self, name: int) -> PublishBatchRequestEntryTypeDef:
        """The entry of a batch."""
        entry: PublishBatchRequestEntryTypeDef = {
            "Id": str(name),
            "Message": self.text,
            "MessageAttributes": {
                attribute: {"DataType": "String", "StringValue": value}
                for attribute, value in self.named.items()
            },
        }
        return entry if self.group is None else {**entry, "MessageGroupId": self.group}


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
        records: Stream records; only new rows of an outbox or a feed are published.
        dead_letter: Dead-letters a record that can never be published, with the reason; may raise.
        patience: Seconds for which what could not be published is retried.
        sleep: Waits so many seconds.

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
    """A record that could not be published, why, and whether a retry is pointless."""

    record: Record
    why: str
    is_permanent: bool


def _publish(
    sns: SNSClient, topic: str, records: Iterable[Record], dead_letter: DeadLetter
) -> list[_Failure]:
    """Publish once, and dead-letter what can never be published; what is left to be retried."""
    failures: list[_Failure] = []
    for batch in _batches(_messages(records, failures)):
        failures += _publish_batch(sns, topic, batch)
    left = [failure for failure in failures if not failure.is_permanent]
    for failure in failures:
        if failure.is_permanent:
            try:
                dead_letter(failure.record, failure.why)
            except TransientError as problem:
                left.append(_Failure(failure.record, words(problem), is_permanent=False))
    return left


def _messages(records: Iterable[Record], failures: list[_Failure]) -> Iterator[_Message]:
    """The events of records; a record that is not one, or is too large, is a failure."""
    for record in records:
        try:
            message = _message(record)
        except (UnreadableError, LookupError) as problem:
            why = f"this is not an event: {words(problem)}"
            failures.append(_Failure(record, why, is_permanent=True))
            continue
        if message.weight > CARRIED:
            why = f"an event must be at most {CARRIED} bytes, got {message.weight}"
            failures.append(_Failure(record, why, is_permanent=True))
            continue
        yield message


def _message(record: Record) -> _Message:
    """The event of a row, and what SNS filters match; in a feed also its owner and its position."""
    image = record["dynamodb"]["NewImage"]
    named = Event.parse(image["event"]["S"]).attributes()
    if "position" in image:
        named |= {"owner": image["owner"]["S"], "position": image["position"]["N"]}
    return _Message(record, image["event"]["S"], named, group_of(image))


def _publish_batch(sns: SNSClient, topic: str, batch: Sequence[_Message]) -> Iterator[_Failure]:
    """Publish a batch; one that is refused as a whole is published one by one."""
    try:
        answer = sns.publish_batch(
            TopicArn=topic,
            PublishBatchRequestEntries=[one.entry(at) for at, one in enumerate(batch)],
        )
    except (ClientError, BotoCoreError) as problem:
        is_permanent = (
            isinstance(problem, ClientError) and problem.response["Error"]["Code"] in PERMANENT
        )
        if is_permanent and len(batch) > 1:
            for one in batch:
                yield from _publish_batch(sns, topic, [one])
        else:
            yield from (_Failure(one.record, words(problem), is_permanent) for one in batch)
        return
    for failed in answer.get("Failed", ()):
        why = f"{failed['Code']}: {failed.get('Message', '')}"
        yield _Failure(batch[int(failed["Id"])].record, cut(why), failed["Code"] in PERMANENT)


def _batches(messages: Iterable[_Message]) -> Iterator[list[_Message]]:
    """The events as SNS accepts them: ten a call, and 256 KiB."""
    batch: list[_Message] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == MAX_BATCH_EVENTS or size + message.weight > CARRIED):
            yield batch
            batch, size = [], 0
        size += message.weight
        batch.append(message)
    if batch:
        yield batch
