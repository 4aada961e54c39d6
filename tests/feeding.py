"""The feed on the ground: what follows the ledger, and the topic that people are told by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recourse.events.relay import relay
from recourse.feed.feed import Feed
from recourse.functions import feed as feed_function
from recourse.testing.ground import LEDGER, Ground
from recourse.testing.handlers import ACCOUNT

TABLE = "feed"


class Feeding:
    """The feed of a ground, and the topic `feed`.

    Args:
        ground: The ground; what enters its ledger from now on is fed.

    Attributes:
        ground: The same.
        feed: The feed.
        topic: The topic's ARN.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._entered = ground.stream.follow(LEDGER)
        self._fed = ground.stream.follow(TABLE, apart=True)
        _make_table(ground.dynamodb)
        self.feed = Feed(ground.dynamodb, TABLE)
        self.topic: str = ground.sns.create_topic(Name="feed")["TopicArn"]

    def subscribe(self, queue: str, only: Mapping[str, Sequence[str]] | None = None) -> str:
        """Put a new queue on the topic, as `PullConsumer` does; its URL."""
        url: str = self.ground.sqs.create_queue(QueueName=queue)["QueueUrl"]
        self.ground.sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}",
            Attributes={"RawMessageDelivery": "true"}
            | ({"FilterPolicy": json.dumps(only)} if only else {}),
        )
        return url

    def settle(self) -> int:
        """Feed all that has entered the ledger, and tell of it; how many events that were."""
        entered, self._entered[:] = list(self._entered), []
        feed_function.handle_batch(self.feed, entered, self.ground.lose_record)
        fed, self._fed[:] = list(self._fed), []
        return relay(self.ground.sns, self.topic, fed, self.ground.lose_record)


def _make_table(dynamodb: Any) -> None:
    """Make the feed's table, as the stack has it."""
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "position", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "position", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
