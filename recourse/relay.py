"""The relay: from the streams of tables to a topic.

Outbox rows go to what steps and consumers listen to; the feed's rows, with their owner and
position, to what people are told by.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from recourse.events import attributes

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient
    from types_boto3_sns.type_defs import PublishBatchRequestEntryTypeDef

MOST_EVENTS, MOST_BYTES = 10, 256 * 1024
"""What one PublishBatch takes."""


class PublishError(Exception):
    """Not every event could be published; the stream delivers the batch again."""


def relay(sns: SNSClient, topic: str, records: Iterable[Mapping[str, Any]]) -> int:
    """Publish the events of new rows; some may be published again after a failure.

    Args:
        sns: An SNS client.
        topic: The topic's ARN.
        records: Stream records; others than new rows of an outbox or a feed are passed over.

    Returns:
        How many were published.

    Raises:
        PublishError: Not all could be.
    """
    told = [
        (image["event"]["S"], _named(image))
        for record in records
        if record["eventName"] == "INSERT"
        and "event" in (image := record["dynamodb"]["NewImage"])
        and image["pk"]["S"].startswith(("outbox#", "feed#"))
    ]
    for batch in _batches(told):
        answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=batch)
        if answer.get("Failed"):
            raise PublishError(answer["Failed"])
    return len(told)


def _named(image: Mapping[str, Any]) -> dict[str, str]:
    """What SNS filters look at, and where in whose feed the event stands."""
    named = attributes(json.loads(image["event"]["S"]))
    if "position" in image:
        named |= {"owner": image["owner"]["S"], "position": image["position"]["N"]}
    return named


def _batches(
    told: Iterable[tuple[str, Mapping[str, str]]],
) -> Iterator[list[PublishBatchRequestEntryTypeDef]]:
    """The events as SNS takes them: ten a call, and 256 KiB."""
    batch: list[PublishBatchRequestEntryTypeDef] = []
    size = 0
    for message, named in told:
        weight = len(message.encode()) + sum(
            len(f"{k}String{v}".encode()) for k, v in named.items()
        )
        if batch and (len(batch) == MOST_EVENTS or size + weight > MOST_BYTES):
            yield batch
            batch, size = [], 0
        size += weight
        batch.append(
            {
                "Id": str(len(batch)),
                "Message": message,
                "MessageAttributes": {
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in named.items()
                },
            }
        )
    if batch:
        yield batch
