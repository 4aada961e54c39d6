"""What every channel stands on in the conformance suite: feed, topic, time, and who receives.

Time stands still until something is waited for; then it moves on to the next moment at which
anything can happen, so minutes and days of faults take no time.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from unittest import mock

from moto import mock_aws
from moto.sqs import models as sqs_models
from moto.sqs.models import sqs_backends

from tests.events import event

os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "ground")
os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")

import recourse.feed.feed
from recourse.errors import TransientError
from recourse.events import Event
from recourse.events.relay import relay
from recourse.feed.feed import Feed
from recourse.queues.inbox import Inbox
from recourse.queues.sources import SourceQueue
from recourse.store.aws import client
from recourse.store.expressions import ABSENT
from recourse.store.table import Table
from recourse.testing import speed, streams, transactions
from recourse.testing.ground import ENVIRONMENT
from recourse.testing.handlers import ACCOUNT, Killed
from recourse.testing.patching import replaced
from tests.feeding import TABLE as FEED
from tests.feeding import _make_table as make_feed

NOW = 1_800_000_000.0
OWNER = "asha"
RECEIVES = 5
"""How often a `PullConsumer` delivers a message before it is dead-lettered."""
VISIBILITY = 30
LONGEST = 15 * 86_400
"""Seconds after which everything must have come to rest: longer than anything is kept."""
DOWN = 600.0
"""Seconds for which an endpoint is down."""

Fault = Literal["none", "duplicates", "random failures", "consumer killed", "endpoint down"]


class FailedError(Exception):
    """The consumer fails, as the test wants it."""


class Bed:
    """The feed, its topic and queues on moto, and a time of their own.

    Attributes:
        now: The time: seconds of the epoch.
        down_until: Until when the consumer cannot be reached.
        duplicates: Whether everything is told twice.
        shuffle: In which order what may come in any order comes.
    """

    def __init__(self, stream: streams.Stream) -> None:
        self.now = NOW
        self.down_until = 0.0
        self.duplicates = False
        self.shuffle = random.Random(11)
        self._fed = stream.follow(FEED, apart=True)
        self.dynamodb, self.sqs, self.sns = client("dynamodb"), client("sqs"), client("sns")
        make_feed(self.dynamodb)
        self.table("inbox", "pk")
        self.feed = Feed(self.dynamodb, FEED)
        self.topic: str = self.sns.create_topic(Name="feed")["TopicArn"]

    def table(self, name: str, *key: str) -> None:
        """Make a table with a key of one or two parts, all of them text."""
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": part, "KeyType": kind}
                for part, kind in zip(key, ("HASH", "RANGE"), strict=False)
            ],
            AttributeDefinitions=[{"AttributeName": part, "AttributeType": "S"} for part in key],
            BillingMode="PAY_PER_REQUEST",
        )

    def listed_table(self, name: str, index: str, attribute: str) -> None:
        """Make a table with an index, as `ListedTable` has it."""
        named = ("pk", attribute, "started")
        key = [
            {"AttributeName": part, "KeyType": kind}
            for part, kind in zip(named, ("HASH", "HASH", "RANGE"), strict=True)
        ]
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=key[:1],
            AttributeDefinitions=[{"AttributeName": part, "AttributeType": "S"} for part in named],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": key[1:],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )

    @property
    def is_down(self) -> bool:
        """Whether the consumer cannot be reached now."""
        return self.now < self.down_until

    def append(self, owner: str, told: Sequence[Mapping[str, Any]]) -> None:
        """Let events enter an owner's feed."""
        self.feed.append(owner, map(Event.from_dict, told))

    def relay(self) -> bool:
        """Publish what has entered the feeds, in any order; whether there was something."""
        fed, self._fed[:] = list(self._fed), []
        self.shuffle.shuffle(fed)
        for _ in range(1 + self.duplicates):
            relay(self.sns, self.topic, fed, _nothing_is_lost)
        return bool(fed)

    def queue(
        self, name: str, *, subscribed: bool = True, raw: bool = True, receives: int = RECEIVES
    ) -> str:
        """A queue with its dead letters, on the topic, as `PullConsumer` has it; its URL."""
        lost = self._queue(f"{name}-dead", {})
        policy = f'{{"deadLetterTargetArn": "{_arn(lost)}", "maxReceiveCount": {receives}}}'
        url = self._queue(name, {"RedrivePolicy": policy, "VisibilityTimeout": str(VISIBILITY)})
        if subscribed:
            self.sns.subscribe(
                TopicArn=self.topic,
                Protocol="sqs",
                Endpoint=_arn(url),
                Attributes={"RawMessageDelivery": str(raw).lower()},
            )
        return url

    def _queue(self, name: str, attributes: Mapping[str, str]) -> str:
        made = self.sqs.create_queue(QueueName=name, Attributes=dict(attributes))
        return str(made["QueueUrl"])

    def source(self, arn: str) -> SourceQueue:
        """The queue of an ARN, as functions see it."""
        return SourceQueue(lambda: self.sqs, arn)

    def batch(self, url: str, most: int = 10) -> list[dict[str, Any]]:
        """A batch off a queue, as Lambda gets it, in any order."""
        got = self.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=most,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        records = [
            {
                "messageId": one["MessageId"],
                "receiptHandle": one["ReceiptHandle"],
                "body": one["Body"],
                "attributes": one["Attributes"],
                "messageAttributes": {
                    name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
                    for name, value in one.get("MessageAttributes", {}).items()
                },
                "eventSourceARN": _arn(url),
            }
            for one in got.get("Messages", [])
        ]
        self.shuffle.shuffle(records)
        return records

    def settle(
        self, url: str, records: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]
    ) -> None:
        """Delete what a function has taken of a batch, as Lambda does after its answer."""
        again = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in again:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=record["receiptHandle"])

    def dead(self, url: str) -> list[str]:
        """The bodies of what a queue has dead-lettered."""
        got = self.sqs.receive_message(QueueUrl=f"{url}-dead", MaxNumberOfMessages=10)
        return [message["Body"] for message in got.get("Messages", [])]

    def visible(self, url: str) -> int:
        """How many messages of a queue could be received now."""
        return len(_backend()[url.rpartition("/")[2]].messages)

    def is_empty(self, url: str) -> bool:
        """Whether a queue has no message, hidden or not."""
        return not _backend()[url.rpartition("/")[2]]._messages

    def wait(self, *others: float) -> bool:
        """Move on to the next moment at which something happens; whether there is one.

        Args:
            others: Moments besides those at which messages become visible.
        """
        messages = [
            max(one.visible_at, one.delayed_until) / 1000 + 0.001
            for queue in _backend().values()
            for one in queue._messages
        ]
        coming = [one for one in (*messages, *others, self.down_until) if one > self.now]
        if not coming:
            return False
        self.now = min(coming)
        assert self.now < NOW + LONGEST, "it does not come to rest"
        return True


class Application:
    """What the author of a consumer writes, with the documented inbox: an effect an event.

    Args:
        bed: Where it keeps its inbox and its effects.
        fault: What goes wrong in it.
        poison: The event that it can never take.
        in_order: Whether it takes an event only after those before it of its saga.

    Attributes:
        arrived: Every event that it was given, as often as it was.
        effects: The events that have had their effect, in order.
        tries: How often it was given each event, by id.
        deaths: How often it has died.
    """

    def __init__(
        self, bed: Bed, fault: Fault = "none", *, poison: str = "", in_order: bool = False
    ) -> None:
        self._bed = bed
        self._fault = fault
        self._poison = poison
        self._in_order = in_order
        self._inbox = Inbox(bed.dynamodb, "inbox")
        self._effects = Table(bed.dynamodb, "inbox")
        self._chance = random.Random(5)
        self._dies = {2: "before", 5: "after", 8: "before", 11: "after"}
        self.arrived: list[Mapping[str, Any]] = []
        self.effects: list[Mapping[str, Any]] = []
        self.tries: Counter[str] = Counter()
        self.deaths = 0

    def take(self, told: Mapping[str, Any]) -> None:
        """Take an event.

        Raises:
            FailedError: It failed.
            TransientError: One before it in its saga has not come yet.
            Killed: The process died, before its effect or after it.
        """
        self.arrived.append(told)
        self.tries[told["id"]] += 1
        dies = self._dies.pop(len(self.arrived), "") if self._fault == "consumer killed" else ""
        if dies == "before":
            self._die()
        if told["id"] == self._poison:
            raise FailedError("poison")
        if self._fault == "random failures" and self._chance.random() < 0.3:
            raise FailedError("by chance")
        if self._in_order and told["sequence"] > 1 + self._last(told["subject"]):
            raise TransientError("one before it has not come yet")
        effect = self._effects.put_request({"pk": f"effect#{told['id']}"}, when=ABSENT)
        if self._inbox.once(told["id"], effect):
            self.effects.append(told)
        if dies == "after":
            self._die()

    def _die(self) -> None:
        self.deaths += 1
        raise Killed

    def _last(self, saga: str) -> int:
        return max((one["sequence"] for one in self.effects if one["subject"] == saga), default=0)


def story(sagas: int = 3, each: int = 3) -> list[dict[str, Any]]:
    """The events of some sagas, one after the other within each, the sagas mingled."""
    return [
        event(
            f"saga-{saga}",
            "order",
            "started",
            id=f"saga-{saga}.{sequence}",
            sequence=sequence,
        ).to_dict()
        for sequence in range(1, each + 1)
        for saga in range(sagas)
    ]


@contextmanager
def bed() -> Iterator[Bed]:
    """A fresh bed, for the length of a block."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, ENVIRONMENT))
        stack.enter_context(mock_aws())
        stack.enter_context(speed.up())
        stack.enter_context(transactions.true())
        stack.callback(client.cache_clear)
        client.cache_clear()
        made = Bed(stack.enter_context(streams.collected()))
        stack.enter_context(replaced(sqs_models, "unix_time_millis", lambda *_: made.now * 1000))
        stack.enter_context(mock.patch.object(recourse.feed.feed, "time", _Time(made)))
        yield made


class _Time:
    """The module `time` with a bed's time."""

    def __init__(self, of: Bed) -> None:
        self.time = lambda: of.now
        self.sleep = time.sleep


def _nothing_is_lost(record: Mapping[str, Any], reason: str) -> None:
    raise AssertionError(reason)


def _arn(url: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{url.rpartition('/')[2]}"


def _backend() -> Mapping[str, Any]:
    found: Mapping[str, Any] = sqs_backends[ACCOUNT]["us-east-1"].queues
    return found
