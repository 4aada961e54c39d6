"""The relay: outbox rows from the tables' streams to the topic that everything listens to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from recourse.events import attributes

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient


class PublishError(Exception):
    """Not every event could be published; the stream delivers the batch again."""


def relay(sns: SNSClient, topic: str, records: Iterable[Mapping[str, Any]]) -> int:
    """Publish the events of new outbox rows; some may be published again after a failure.

    Args:
        sns: An SNS client.
        topic: The topic's ARN.
        records: Stream records; others than new outbox rows are passed over.

    Returns:
        How many were published.

    Raises:
        PublishError: Not all could be.
    """
    told = [
        json.loads(image["event"]["S"])
        for record in records
        if record["eventName"] == "INSERT"
        and "event" in (image := record["dynamodb"]["NewImage"])
        and image["pk"]["S"].startswith("outbox#")
    ]
    for first in range(0, len(told), 10):
        batch = told[first : first + 10]
        answer = sns.publish_batch(
            TopicArn=topic,
            PublishBatchRequestEntries=[
                {
                    "Id": str(index),
                    "Message": json.dumps(one, separators=(",", ":"), ensure_ascii=False),
                    "MessageAttributes": {
                        name: {"DataType": "String", "StringValue": value}
                        for name, value in attributes(one).items()
                    },
                }
                for index, one in enumerate(batch)
            ],
        )
        if answer.get("Failed"):
            raise PublishError(answer["Failed"])
    return len(told)
